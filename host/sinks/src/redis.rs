//! What a Redis destination needs, whatever it writes: a connection that is opened when it is needed, and what an error
//! means.
//!
//! The client's own attempts are switched off where it has any: a cluster's client follows `MOVED` and
//! `ASK`, and tries once. A connection that has failed is thrown away; the next delivery opens another.

mod connect;

use std::sync::{Mutex, PoisonError};

use model::sink::SinkError;
use options::redis::Server;
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, ServerErrorKind, Value};

use crate::BuildError;

pub(crate) use connect::Opener;

/// Where a sink writes to, and the connection if there is one.
pub(crate) struct Redis {
    opener: Opener,
    /// Shared by all requests: what they send goes one behind the other.
    connection: Mutex<Option<Connection>>,
    address: String,
}

/// A connection to one server, or to those of a cluster.
#[derive(Clone)]
pub(crate) enum Connection {
    One(redis::aio::MultiplexedConnection),
    Cluster(redis::cluster_async::ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

impl Redis {
    /// # Errors
    /// A file of a certificate cannot be read.
    pub(crate) fn new(server: &Server) -> Result<Self, BuildError> {
        let hosts: Vec<String> =
            server.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let opener = Opener::new(server)?;
        Ok(Self { opener, connection: Mutex::new(None), address: hosts.join(",") })
    }

    /// What one connection answers within the time of one request.
    ///
    /// # Errors
    /// Nothing answers, or what it says is an error.
    pub(crate) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, SinkError> {
        let timeout = self.opener.timeout();
        let asked = async {
            let known = self.lock().clone();
            let mut connection = match known {
                Some(known) => known,
                None => {
                    let opened = self.opener.open().await?;
                    *self.lock() = Some(opened.clone());
                    opened
                }
            };
            ask(&mut connection).await
        };
        let late = || format!("{}: no answer within {timeout:?}", self.address);
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                // One that still works is as quickly opened anew.
                self.lock().take();
                Err(self.told(&error))
            }
            Err(_) => {
                self.lock().take();
                Err(SinkError::unreachable(late()))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of the client or of the server.
    fn told(&self, error: &RedisError) -> SinkError {
        let code = error.code().unwrap_or_default();
        if error.kind() == ErrorKind::Io || error.is_timeout() || error.is_connection_dropped() {
            return SinkError::unreachable(format!("{}: {}", self.address, short(error)));
        }
        self.refused(code, &short(error))
    }

    /// What the server refuses, by the first word of what it says.
    pub(crate) fn refused(&self, code: &str, said: &str) -> SinkError {
        let message = format!("{}: {said}", self.address);
        match code {
            // It comes back by itself: it starts, fails over, or somebody makes room.
            "LOADING" | "BUSY" | "OOM" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN"
            | "MISCONF" | "NOREPLICAS" => SinkError::unreachable(message),
            "MOVED" | "ASK" => SinkError::misconfigured(format!(
                "{message} (it is a cluster: say `cluster: true`)"
            )),
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "WRONGTYPE" | "CROSSSLOT" => {
                SinkError::misconfigured(message)
            }
            _ => SinkError::later(message),
        }
    }
}

/// What the server says may hold values: not more of it than its first words.
fn short(error: &RedisError) -> String {
    let text = match error.kind() {
        ErrorKind::AuthenticationFailed => {
            format!("the login is refused: {}", error.detail().unwrap_or_default())
        }
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            format!("NOPERM {}", error.detail().unwrap_or_default())
        }
        _ => error.to_string(),
    };
    text.chars().filter(|it| !it.is_control()).take(200).collect()
}
