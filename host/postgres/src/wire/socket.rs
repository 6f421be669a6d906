//! Reaching a server.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::options::Options;

/// Whatever bytes go through. One virtual call per system call costs nothing.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

pub(crate) type BoxSocket = Box<dyn Socket>;

/// Opens a plain connection.
pub(crate) async fn dial(options: &Options) -> io::Result<BoxSocket> {
    if options.host.starts_with('/') {
        let name = format!(".s.PGSQL.{}", options.port);
        let socket = UnixStream::connect(Path::new(&options.host).join(name)).await?;
        return Ok(Box::new(socket));
    }
    let socket = TcpStream::connect((options.host.as_str(), options.port)).await?;
    // Status updates are small and must not wait for company.
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}
