//! Which addresses are asked.

use ureq::http::Uri;

/// An address that may be asked: https anywhere, or http on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    uri: Uri,
    /// Whether it is http, so on this machine.
    pub(crate) plain: bool,
}

impl Address {
    /// An address; or why it is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is not an address")?;
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user name or password, which are not sent");
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self { uri, plain: false }),
            Some("http") if is_this_machine(authority.host()) => Ok(Self { uri, plain: true }),
            Some("http") => Err("is plain http; only https is asked, but for this machine"),
            _ => Err("is neither https nor http"),
        }
    }

    /// Where a redirect leads; or why it is not followed.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, &'static str> {
        let next = Self::parse(&self.resolve(location))?;
        // A server far away has nothing to look for on this machine.
        if next.plain && !self.plain {
            return Err("is plain http, after https");
        }
        Ok(next)
    }

    /// A `Location` in full (RFC 3986, section 5.2, without the removal of dots).
    fn resolve(&self, location: &str) -> String {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.plain { "http" } else { "https" };
        let authority = self.uri.authority().map_or("", |it| it.as_str());
        let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty()
                && scheme
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it))
        });
        if has_scheme {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else if location.starts_with('?') || location.is_empty() {
            format!("{scheme}://{authority}{}{location}", self.uri.path())
        } else {
            let folder = self
                .uri
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.uri.fmt(f)
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|it| it.is_loopback())
}

/// A path of a mirror as it stands in an address: everything but letters, digits and `-._~+/` is percent-encoded.
pub(crate) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_asked_but_for_this_machine() {
        for good in [
            "https://example.org/a.zip",
            "http://localhost:8000/a",
            "http://127.0.0.1/a",
            "http://[::1]:80/a",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.org/a",
            "http://localhost.example.org/a",
            "http://127.0.0.1.example.org/",
            "http://10.0.0.1/",
            "ftp://example.org/a",
            "file:///etc/passwd",
            "https://user:secret@example.org/",
            "http://localhost@example.org/",
            "/a",
            "a b",
            "",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirects_are_resolved_and_do_not_leave_https() {
        let from = Address::parse("https://a.org/x/y?z").expect("an address");
        for (location, to) in [
            ("https://b.org/c", "https://b.org/c"),
            ("//b.org/c", "https://b.org/c"),
            ("/c#d", "https://a.org/c"),
            ("c", "https://a.org/x/c"),
            ("?q", "https://a.org/x/y?q"),
        ] {
            assert_eq!(
                from.follow(location).map(|it| it.to_string()),
                Ok(to.to_owned()),
                "{location}"
            );
        }
        for location in [
            "http://b.org/",
            "http://localhost/",
            "file:///etc/passwd",
            "javascript:x",
            "https://",
        ] {
            assert!(from.follow(location).is_err(), "{location}");
        }
    }

    #[test]
    fn paths_are_percent_encoded() {
        assert_eq!(encode("a b/isolet1+2.gz"), "a%20b/isolet1+2.gz");
        assert_eq!(encode("ü?#%"), "%C3%BC%3F%23%25");
    }
}
