//! The proxy's faults, one by one: a test that trusts them must be able to.

use std::time::Duration;

use anyhow::Result;
use tests::{Proxy, Way, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(10);

/// Long enough for a byte to come that may not come.
const MOMENT: Duration = Duration::from_millis(150);

/// Both ends of a connection through a proxy.
struct Line {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Line {
    async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::start(listener.local_addr()?.port()).await?;
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
        let (server, _) = listener.accept().await?;
        Ok(Self { proxy, listener, client, server })
    }
}

/// Sends a byte; whether it arrives within the time.
async fn passes(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> Result<bool> {
    from.write_all(b"x").await?;
    Ok(timeout(within, to.read_exact(&mut [0])).await.is_ok_and(|read| read.is_ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_line_keeps_bytes_and_connections() -> Result<()> {
    let Line { proxy, mut client, mut server, .. } = Line::new().await?;
    assert!(passes(&mut client, &mut server, SOON).await?);
    proxy.stall(Way::ToServer);
    // A read that has begun still brings its bytes as far as the proxy.
    assert!(!passes(&mut client, &mut server, MOMENT).await?);
    assert!(passes(&mut server, &mut client, SOON).await?, "the other way flows");
    proxy.stall(Way::Both);
    assert!(!passes(&mut server, &mut client, MOMENT).await?);
    // In the end the sender feels it.
    let all = vec![0; 64 << 20];
    assert!(timeout(MOMENT, client.write_all(&all)).await.is_err());
    proxy.heal();
    let byte = &mut [0];
    timeout(SOON, server.read_exact(byte)).await??;
    timeout(SOON, client.read_exact(byte)).await??;
    assert_eq!(byte, b"x", "nothing was lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_line_is_late_one_way() -> Result<()> {
    let Line { proxy, mut client, mut server, .. } = Line::new().await?;
    proxy.delay(Way::ToClient, 2 * MOMENT);
    let start = Instant::now();
    assert!(passes(&mut server, &mut client, SOON).await?);
    assert!(start.elapsed() >= 2 * MOMENT, "{:?}", start.elapsed());
    proxy.heal();
    assert!(passes(&mut client, &mut server, SOON).await?);
    let start = Instant::now();
    assert!(passes(&mut server, &mut client, SOON).await?);
    assert!(start.elapsed() < 2 * MOMENT, "{:?}", start.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_ends_connections_and_refuses_new_ones_until_it_is_healed() -> Result<()> {
    let Line { proxy, listener, mut client, mut server } = Line::new().await?;
    proxy.cut();
    assert_eq!(timeout(SOON, client.read(&mut [0])).await?.unwrap_or(0), 0);
    assert_eq!(timeout(SOON, server.read(&mut [0])).await?.unwrap_or(0), 0);
    let mut refused = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
    assert_eq!(timeout(SOON, refused.read(&mut [0])).await?.unwrap_or(0), 0);
    until("the proxy to count it", SOON, async || {
        Ok(if proxy.refused() == 1 { Ok(()) } else { Err(proxy.refused().to_string()) })
    })
    .await?;
    assert!(timeout(MOMENT, listener.accept()).await.is_err(), "the server was not bothered");
    proxy.heal();
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await?;
    let (mut server, _) = timeout(SOON, listener.accept()).await??;
    assert!(passes(&mut client, &mut server, SOON).await?);
    Ok(())
}
