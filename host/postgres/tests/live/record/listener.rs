//! Somebody between client and server, who writes down what the server says.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Ends with the process.
pub(super) struct Listener {
    pub(super) port: u16,
    /// What the server said on each replication connection.
    heard: Arc<Mutex<Vec<Heard>>>,
}

type Heard = Arc<Mutex<Vec<u8>>>;

impl Listener {
    /// Listens in front of the server with this port.
    pub(super) fn start(server: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for client in socket.incoming() {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                pass_on(client.unwrap(), server, &log);
            }
        });
        Self { port, heard }
    }

    /// What the server has said on the newest replication connection.
    pub(super) fn replication(&self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap();
        heard.last().map(|heard| heard.lock().unwrap().clone()).unwrap_or_default()
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, log: &Mutex<Vec<Heard>>) {
    // The startup message is small and comes at once.
    let mut first = [0; 4096];
    let len = client.read(&mut first).unwrap();
    let first = &first[..len];
    let heard = Heard::default();
    if first.windows(12).any(|words| words == b"replication\0") {
        log.lock().unwrap().push(Arc::clone(&heard));
    }
    server.write_all(first).unwrap();
    let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || copy(from_client, to_server, &Heard::default()));
    thread::spawn(move || copy(server, client, &heard));
}

/// What is heard is written down before anybody can act on it.
fn copy(mut from: TcpStream, mut to: TcpStream, heard: &Heard) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(len) = from.read(&mut buffer) {
        heard.lock().unwrap().extend(&buffer[..len]);
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
