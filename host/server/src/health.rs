//! `sequin health`: asks the engine on this machine, so that an image needs no HTTP client for it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use crate::{Failure, settings};

/// For each step. What asks for health has its own deadline over all.
const TIMEOUT: Duration = Duration::from_secs(3);
/// More than the answer ever has.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// Asks `/health` where `serve` would listen with the same environment.
///
/// # Errors
/// A setting is wrong, nothing answers there, or the answer is not 200.
pub(crate) fn run() -> Result<(), Failure> {
    let address = settings::api(&settings::environment).map_err(Failure::Usage)?;
    let address = reachable(address);
    let answer =
        ask(address).with_context(|| format!("ask http://{address}/health (SERVER_PORT)"))?;
    let first = answer.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(anyhow::anyhow!("http://{address}/health answered: {}", first.escape_debug()).into())
}

/// Nobody can connect to "all addresses"; the loopback one is among them.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /health HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_at_the_loopback_one() {
        let asked = |bind: &str| reachable(bind.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:7376"), "127.0.0.1:7376");
        assert_eq!(asked("[::]:80"), "[::1]:80");
        assert_eq!(asked("10.0.0.7:80"), "10.0.0.7:80");
    }
}
