//! One download: resumed where it can be, tried again where that may help.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use ureq::{
    Agent, Body,
    http::{Response, header},
};

use super::{Error, Event, Options, address::Address};

/// Bytes that an attempt has to bring to not count as failed.
const PROGRESS: u64 = 1 << 20;

/// What is known of a file before it is asked for.
pub(super) struct Want<'a> {
    /// `<set>/<file>`, for messages.
    pub(super) label: &'a str,
    /// Its size, if it must have one.
    pub(super) bytes: Option<u64>,
    /// Bytes it may have at most.
    pub(super) limit: u64,
}

/// Downloads an address into a file `part`, and goes on with what is there of it. Says whether it did the latter.
///
/// What came stays in `part` when the connection fails, with its origin beside it (`<part>.from`), so that the next call
/// goes on. A part without a validator (`ETag` or `Last-Modified`) is not gone on with: nothing would tell that the
/// rest is of the same file.
pub(super) fn download(
    from: &str,
    part: &Path,
    want: &Want<'_>,
    options: &Options,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<bool, Error> {
    let address = Address::parse(from).map_err(|fault| Error::Address {
        address: from.to_owned(),
        fault,
    })?;
    let mut download = Download {
        from,
        address,
        part,
        want,
        options,
        resumed: false,
    };
    let (mut failed, mut wait) = (0, options.back_off);
    loop {
        let before = download.have();
        let error = match download.attempt(watch) {
            Ok(()) => return Ok(download.resumed),
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        if download.have() >= before.saturating_add(PROGRESS) {
            (failed, wait) = (0, options.back_off);
        }
        failed += 1;
        if failed > options.retries {
            return Err(error);
        }
        watch(Event::Retry {
            file: want.label,
            error: &error,
            wait,
        });
        thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_secs(30));
    }
}

/// Reads a small text, such as the index of a mirror; `None` if the server does not have it.
pub(super) fn text(from: &str, limit: u64, options: &Options) -> Result<Option<String>, Error> {
    let address = Address::parse(from).map_err(|fault| Error::Address {
        address: from.to_owned(),
        fault,
    })?;
    let want = Want {
        label: from,
        bytes: None,
        limit,
    };
    let download = Download {
        from,
        address,
        part: Path::new(""),
        want: &want,
        options,
        resumed: false,
    };
    let mut response = download.ask(&[])?;
    match response.status().as_u16() {
        200 => {}
        404 | 410 => return Ok(None),
        status => {
            return Err(Error::Status {
                from: from.to_owned(),
                status,
            });
        }
    }
    let mut bytes = Vec::new();
    let failed = |source| Error::Connection {
        from: from.to_owned(),
        source,
    };
    response
        .body_mut()
        .as_reader()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge {
            from: from.to_owned(),
            file: from.to_owned(),
            limit,
        });
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| download.nonsense("the text is not UTF-8"))
}

/// Removes a part and what is known of it.
pub(super) fn discard(part: &Path) -> Result<(), Error> {
    for path in [part.to_owned(), origin_path(part)] {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::Io {
                    action: "remove",
                    path: path.display().to_string(),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn origin_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".from");
    name.into()
}

/// Where a part is from, and which version of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    address: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Origin {
    fn of(from: &str, response: &Response<Body>) -> Self {
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|it| it.to_str().ok())
                .map(str::to_owned)
        };
        Self {
            address: from.to_owned(),
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
        }
    }

    /// What `If-Range` says. A weak tag promises equal meaning, not equal bytes, so it does not do.
    fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|it| !it.starts_with("W/"));
        strong.or(self.last_modified.as_deref())
    }

    /// Whether an answer is of another version. What it does not say is taken to be the same.
    fn differs(&self, answer: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
        differ(&self.etag, &answer.etag) || differ(&self.last_modified, &answer.last_modified)
    }
}

struct Download<'a> {
    from: &'a str,
    address: Address,
    part: &'a Path,
    want: &'a Want<'a>,
    options: &'a Options,
    resumed: bool,
}

impl Download<'_> {
    /// Bytes of the part.
    fn have(&self) -> u64 {
        fs::metadata(self.part).map_or(0, |it| it.len())
    }

    /// The origin of the part, if it can be gone on with.
    fn origin(&self) -> Option<Origin> {
        let text = fs::read_to_string(origin_path(self.part)).ok()?;
        let origin: Origin = toml::from_str(&text).ok()?;
        (origin.address == self.from && origin.validator().is_some()).then_some(origin)
    }

    /// Asks once, and takes what comes.
    fn attempt(&mut self, watch: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let mut have = self.have();
        let origin = self
            .origin()
            .filter(|_| have > 0 && have <= self.want.bytes.unwrap_or(self.want.limit));
        if origin.is_none() {
            discard(self.part)?;
            have = 0;
        }
        if have > 0 && self.want.bytes == Some(have) {
            self.resumed = true;
            return Ok(()); // All came, and then the program stopped.
        }
        let mut headers = Vec::new();
        if let Some(validator) = origin.as_ref().and_then(Origin::validator) {
            headers.push((header::RANGE, format!("bytes={have}-")));
            headers.push((header::IF_RANGE, validator.to_owned()));
        }
        let response = self.ask(&headers)?;
        let answer = Origin::of(self.from, &response);
        match (response.status().as_u16(), origin) {
            (200, _) => {
                let total = length(&response);
                self.check_size(total)?;
                discard(self.part)?;
                self.remember(&answer)?;
                self.take(response, 0, total, watch)
            }
            (206, Some(origin)) => {
                let Some((start, total)) = content_range(&response) else {
                    discard(self.part)?;
                    return Err(self.nonsense("a part without a valid Content-Range"));
                };
                if start != have || origin.differs(&answer) {
                    discard(self.part)?;
                    return Err(self.nonsense(
                        "a part of another file than the one before, or not the part asked for",
                    ));
                }
                self.check_size(total)?;
                self.resumed = true;
                watch(Event::Resume {
                    file: self.want.label,
                    at: have,
                });
                let total =
                    total.or_else(|| length(&response).map(|rest| have.saturating_add(rest)));
                self.take(response, have, total, watch)
            }
            (206, None) => Err(self.nonsense("a part where the whole was asked for")),
            (416, Some(origin)) => {
                // Nothing is left if we have it all; else what we have is not of this file.
                let total = unsatisfied_range(&response);
                if total == Some(have) && self.want.bytes.is_none() && !origin.differs(&answer) {
                    self.resumed = true;
                    return Ok(());
                }
                discard(self.part)?;
                Err(self.nonsense("it does not have the rest of what it gave before"))
            }
            (status, _) => Err(Error::Status {
                from: self.from.to_owned(),
                status,
            }),
        }
    }

    /// Sends the request, and follows redirects.
    fn ask(&self, headers: &[(header::HeaderName, String)]) -> Result<Response<Body>, Error> {
        let mut address = self.address.clone();
        for _ in 0..=self.options.redirects {
            let mut request = agent(self.options, address.plain).get(address.to_string());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let response = request.call().map_err(|error| self.failed(error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING)
                    && encoding != "identity"
                {
                    return Err(self.nonsense("an encoding that was not asked for"));
                }
                return Ok(response);
            }
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|it| it.to_str().ok());
            let location = location.ok_or_else(|| self.nonsense("a redirect to nowhere"))?;
            address = address.follow(location).map_err(|fault| Error::Redirect {
                from: address.to_string(),
                to: location.to_owned(),
                fault,
            })?;
        }
        Err(Error::Redirects {
            from: self.from.to_owned(),
            limit: self.options.redirects,
            last: address.to_string(),
        })
    }

    /// Whether a size that was announced can be right.
    fn check_size(&self, announced: Option<u64>) -> Result<(), Error> {
        let (from, file) = (self.from.to_owned(), self.want.label.to_owned());
        match (announced, self.want.bytes) {
            (Some(found), Some(expected)) if found != expected => {
                discard(self.part)?;
                Err(Error::WrongSize {
                    from,
                    file,
                    found,
                    expected,
                })
            }
            (Some(found), None) if found > self.want.limit => {
                discard(self.part)?;
                Err(Error::TooLarge {
                    from,
                    file,
                    limit: self.want.limit,
                })
            }
            _ => Ok(()),
        }
    }

    fn remember(&self, origin: &Origin) -> Result<(), Error> {
        let path = origin_path(self.part);
        let text = toml::to_string(origin).expect("three strings are TOML");
        fs::write(&path, text).map_err(|source| self.io("write", &path, source))
    }

    /// Appends the body to the part.
    fn take(
        &self,
        mut response: Response<Body>,
        have: u64,
        total: Option<u64>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.part)
            .map_err(|source| self.io("open", self.part, source))?;
        let limit = self.want.bytes.unwrap_or(self.want.limit);
        let (mut done, mut buffer) = (have, vec![0; 1 << 16]);
        let mut body = response.body_mut().as_reader();
        let (mut window, mut at_window) = (Instant::now(), have);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(self.ended(&source.to_string(), done, total, source.kind()));
                }
            };
            done += count as u64;
            if done > limit {
                drop(file);
                discard(self.part)?;
                let (from, file) = (self.from.to_owned(), self.want.label.to_owned());
                return Err(Error::TooLarge { from, file, limit });
            }
            file.write_all(&buffer[..count])
                .map_err(|source| self.io("write", self.part, source))?;
            watch(Event::Bytes {
                file: self.want.label,
                done,
                total: self.want.bytes.or(total),
            });
            let elapsed = window.elapsed();
            if elapsed >= self.options.silence {
                if ((done - at_window) as f64) < self.options.slowest as f64 * elapsed.as_secs_f64()
                {
                    return Err(Error::Slow {
                        from: self.from.to_owned(),
                        slowest: self.options.slowest,
                    });
                }
                (window, at_window) = (Instant::now(), done);
            }
        }
        match self.want.bytes.or(total) {
            Some(all) if done < all => {
                Err(self.ended("it ended", done, total, io::ErrorKind::UnexpectedEof))
            }
            Some(total) if done > total => {
                drop(file);
                discard(self.part)?;
                Err(self.nonsense("more bytes than it announced"))
            }
            _ => Ok(()),
        }
    }

    /// The body ended before all of it was there.
    fn ended(&self, why: &str, done: u64, total: Option<u64>, kind: io::ErrorKind) -> Error {
        let of = self
            .want
            .bytes
            .or(total)
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        let source = io::Error::new(kind, format!("{why}, after {done}{of} bytes"));
        Error::Connection {
            from: self.from.to_owned(),
            source,
        }
    }

    fn nonsense(&self, message: &str) -> Error {
        Error::Protocol {
            from: self.from.to_owned(),
            message: message.to_owned(),
        }
    }

    fn io(&self, action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    }

    fn failed(&self, error: ureq::Error) -> Error {
        let from = self.from.to_owned();
        match error {
            ureq::Error::Protocol(error) => Error::Protocol {
                from,
                message: error.to_string(),
            },
            ureq::Error::BadUri(message) => Error::Protocol { from, message },
            ureq::Error::LargeResponseHeader(..) => Error::Protocol {
                from,
                message: "its header is too large".to_owned(),
            },
            ureq::Error::HostNotFound => Error::Connection {
                from,
                source: io::Error::new(io::ErrorKind::NotFound, "there is no such host"),
            },
            ureq::Error::Tls(message) => Error::Tls {
                from,
                source: io::Error::other(message),
            },
            ureq::Error::Rustls(error) => Error::Tls {
                from,
                source: io::Error::other(error),
            },
            other => match other.into_io() {
                // This is how a handshake that fails comes through the transport.
                source if source.kind() == io::ErrorKind::InvalidData => {
                    Error::Tls { from, source }
                }
                source => Error::Connection { from, source },
            },
        }
    }
}

/// A client under the options. On this machine there is no proxy to ask.
fn agent(options: &Options, this_machine: bool) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .https_only(!this_machine)
        .user_agent(concat!("nearfar/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(options.connect))
        .timeout_connect(Some(options.connect))
        .timeout_send_request(Some(options.silence))
        .timeout_recv_response(Some(options.silence))
        .timeout_per_read(Some(options.silence));
    if this_machine {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

fn length(response: &Response<Body>) -> Option<u64> {
    response
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Start and total of `bytes 5-9/10`; the total may be `*`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let text = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}

/// Total of `bytes */10`.
fn unsatisfied_range(response: &Response<Body>) -> Option<u64> {
    let text = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    text.trim().strip_prefix("bytes */")?.parse().ok()
}
