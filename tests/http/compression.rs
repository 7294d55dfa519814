//! Large answers, compressed for clients that accept it.

use super::house::House;
use flate2::read::GzDecoder;
use std::io::{Read as _, Write as _};

/// The headers and the body of an answer, byte for byte.
fn raw(house: &House, path: &str, accepted: &str) -> (String, Vec<u8>) {
    let mut stream = house.connect();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: {accepted}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    (head + "\r\n", answer.split_off(end + 4))
}

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn large_answers_are_compressed_for_those_who_accept_it() {
    let sections: String = (0..500)
        .map(|number| format!("[device_d{number:03}]\nwatchTopics = \"d/{number}\"\n"))
        .collect();
    let house = House::with(&sections);
    for path in ["/metrics", "/api/v1/devices", "/", "/app.js", "/style.css"] {
        let (head, plain) = raw(&house, path, "identity");
        assert!(head.starts_with("http/1.0 200 "), "{path}: {head}");
        assert!(!head.contains("content-encoding"), "{path}: {head}");
        assert!(head.contains("accept-encoding\r\n"), "{path} varies: {head}");
        let (head, packed) = raw(&house, path, "gzip, br");
        assert!(head.contains("\r\ncontent-encoding: gzip\r\n"), "{path}: {head}");
        assert!(head.contains("accept-encoding\r\n"), "{path} varies: {head}");
        assert!(!head.contains("\r\netag: \""), "{path} has a weak tag: {head}");
        println!("{path}: {} bytes, {} packed", plain.len(), packed.len());
        let (plain, packed) = (String::from_utf8(plain).unwrap(), unpacked(&packed));
        // The process's own figures change with each scrape.
        let figures = |text: &str| -> Vec<String> {
            text.lines().filter(|it| !it.starts_with("process_")).map(str::to_owned).collect()
        };
        assert_eq!(figures(&plain), figures(&packed), "{path}");
    }
    let (_, plain) = raw(&house, "/metrics", "");
    let (_, packed) = raw(&house, "/metrics", "gzip");
    assert!(packed.len() * 8 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
    for path in ["/healthz", "/api/v1/status"] {
        let (head, _) = raw(&house, path, "gzip");
        assert!(!head.contains("content-encoding"), "{path} is short: {head}");
    }
}
