//! Servers that are not etcd.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It accepts connections and says nothing.
    None,
    Is(&'static str),
    /// A body that never ends.
    Endless,
}

/// A server that answers each connection in this way. It ends with the process.
pub fn member(answer: Answer) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap(), answer));
        }
    });
    port
}

/// A port on which nobody listens, and which no other test is given.
pub fn port_that_refuses() -> u16 {
    // A socket that is bound and does not listen refuses connections.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::mem::forget(socket);
    port
}

fn serve(mut stream: TcpStream, answer: Answer) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    match answer {
        Answer::None => while stream.read(&mut request).is_ok_and(|read| read > 0) {},
        Answer::Is(bytes) => {
            let _ = stream.write_all(bytes.as_bytes());
        }
        Answer::Endless => {
            let head = "HTTP/1.1 200 OK\r\n\r\n{\"header\":{\"revision\":\"";
            let filler = [b'1'; 65_536];
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&filler);
            }
        }
    }
}
