//! A server whose certificate nobody vouches for.

use std::{
    io::Read,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nearfar_catalogue::fetch::{Error, Source};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{file, folder, get_from, left, options, set};

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_at_once() {
    // For `localhost`, until 2126, and signed by itself:
    // openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost \
    //     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -outform DER
    let certificate = CertificateDer::from(include_bytes!("self_signed.cert.der").as_slice());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
        include_bytes!("self_signed.key.der").as_slice(),
    ));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (connections, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    thread::spawn({
        let (connections, bytes) = (connections.clone(), bytes.clone());
        move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                let mut buffer = [0; 1024];
                let read = StreamOwned::new(connection, stream).read(&mut buffer);
                bytes.fetch_add(read.unwrap_or(0), Ordering::SeqCst);
            }
        }
    });
    let url = format!("https://localhost:{port}/a.bin");
    let (data, set) = (folder(), set(&file("a.bin", b"x", &[url])));
    match get_from(&set, data.path(), &Source::Upstream, &options()).0 {
        Err(Error::Tls { source, .. }) => {
            assert!(source.to_string().contains("certificate"), "{source}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bytes.load(Ordering::SeqCst), 0, "nothing was asked");
    assert_eq!(
        connections.load(Ordering::SeqCst),
        1,
        "asking again would not help"
    );
    assert!(left(data.path()).is_empty());
}
