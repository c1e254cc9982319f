//! A web server on this machine that does as it is told, good or bad.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path, with the query.
    pub(crate) path: String,
    /// Headers, with names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// How many requests came before this one.
    pub(crate) index: usize,
}

impl Request {
    /// The start of the range that was asked for.
    pub(crate) fn start(&self) -> Option<usize> {
        self.headers
            .get("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    }

    pub(crate) fn if_range(&self) -> Option<&str> {
        self.headers.get("if-range").map(String::as_str)
    }
}

/// What is answered: the status, the headers as they are, and as much of the body as is sent before the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut.
    pub(crate) cut: Option<usize>,
    /// Pause before each byte of the body.
    pub(crate) pause: Option<Duration>,
    /// Time without a word before the answer.
    pub(crate) wait: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The body, with its true length.
    pub(crate) fn body(self, body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            ..self.header("Content-Length", body.len())
        }
    }

    pub(crate) fn cut(self, bytes: usize) -> Self {
        Self {
            cut: Some(bytes),
            ..self
        }
    }
}

/// The answer of a server that knows its trade: ranges, validators and all.
pub(crate) fn honest(request: &Request, body: &[u8], etag: &str) -> Reply {
    let same = request.if_range().is_none_or(|it| it == etag);
    match request.start().filter(|_| same) {
        Some(start) if start >= body.len() => Reply::new(416)
            .header("Content-Range", format!("bytes */{}", body.len()))
            .body(b""),
        Some(start) => Reply::new(206)
            .header("ETag", etag)
            .header(
                "Content-Range",
                format!("bytes {start}-{}/{}", body.len() - 1, body.len()),
            )
            .body(&body[start..]),
        None => Reply::new(200).header("ETag", etag).body(body),
    }
}

/// A server; its thread ends with the test.
pub(crate) struct Server {
    address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn new(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), log.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (handler.clone(), seen.clone());
                thread::spawn(move || serve(stream, handler.as_ref(), &seen));
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("no handler panics").clone()
    }
}

/// One request and its answer; errors mean that the client has gone.
fn serve(
    stream: TcpStream,
    handler: &(dyn Fn(&Request) -> Reply + Send + Sync),
    log: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let line = lines.next()?.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let request = {
        let mut log = log.lock().ok()?;
        let request = Request {
            path,
            headers,
            index: log.len(),
        };
        log.push(request.clone());
        request
    };
    let reply = handler(&request);
    if let Some(wait) = reply.wait {
        thread::sleep(wait);
    }
    let mut stream = stream;
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nConnection: close\r\n",
        reply.status
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
    match reply.pause {
        None => stream.write_all(body).ok()?,
        Some(pause) => {
            for byte in body {
                thread::sleep(pause);
                stream.write_all(&[*byte]).ok()?;
            }
        }
    }
    stream.flush().ok()
}
