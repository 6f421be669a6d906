//! Opens connections: to one server, to a cluster, or to whom sentinels call the master.

use std::path::Path;
use std::time::Duration;

use options::redis::{Mode, Server, Tls};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use super::Connection;
use crate::BuildError;

/// Opens connections.
pub(crate) struct Opener {
    how: How,
    timeout: Duration,
}

enum How {
    One(Client),
    Cluster(ClusterClient),
    /// It remembers which sentinel has answered.
    Sentinel(Mutex<SentinelClient>),
}

impl Opener {
    /// # Errors
    /// A file of a certificate cannot be read, or holds none.
    pub(crate) fn new(server: &Server) -> Result<Self, BuildError> {
        // An error means that one is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let certificates = server.tls.as_ref().map(certificates).transpose()?;
        let how = how(server, certificates)
            .map_err(|error| BuildError::Redis { reason: error.to_string() })?;
        Ok(Self { how, timeout: server.timeout })
    }

    /// Of a request, and of opening a connection for it.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) async fn open(&self) -> RedisResult<Connection> {
        // The whole request has a time of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        Ok(match &self.how {
            How::One(client) => {
                Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            How::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
            How::Sentinel(client) => {
                let mut client = client.lock().await;
                Connection::One(client.get_async_connection_with_config(&config).await?)
            }
        })
    }
}

fn how(server: &Server, certificates: Option<TlsCertificates>) -> RedisResult<How> {
    let mut info = RedisConnectionInfo::default().set_db(server.database);
    if let Some(username) = &server.username {
        info = info.set_username(username);
    }
    if let Some(password) = &server.password {
        info = info.set_password(password.reveal());
    }
    let address = |(host, port): &(String, u16)| {
        if certificates.is_some() {
            ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        }
    };
    let addresses: Vec<ConnectionAddr> = server.hosts.iter().map(address).collect();
    match &server.mode {
        Mode::Single => {
            let none = || RedisError::from((ErrorKind::InvalidClientConfig, "there is no host"));
            let first = addresses.into_iter().next().ok_or_else(none)?;
            let info = first.into_connection_info()?.set_redis_settings(info);
            Ok(How::One(match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            }))
        }
        Mode::Cluster => {
            let nodes: RedisResult<Vec<_>> =
                addresses.into_iter().map(IntoConnectionInfo::into_connection_info).collect();
            let nodes = nodes?.into_iter().map(|node| node.set_redis_settings(info.clone()));
            // What failed is tried again by the engine, which knows how long to wait.
            let mut builder = ClusterClientBuilder::new(nodes)
                .retries(1)
                .connection_timeout(server.timeout)
                .response_timeout(server.timeout);
            if let Some(username) = &server.username {
                builder = builder.username(username);
            }
            if let Some(password) = &server.password {
                builder = builder.password(password.reveal());
            }
            if let Some(certificates) = certificates {
                builder = builder.tls(TlsMode::Secure).certs(certificates);
            }
            Ok(How::Cluster(builder.build()?))
        }
        Mode::Sentinel(master) => {
            let kind = SentinelServerType::Master;
            let mut builder = SentinelClientBuilder::new(addresses, master, kind)?
                .set_client_to_redis_db(server.database);
            if let Some(username) = &server.username {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = &server.password {
                builder = builder.set_client_to_redis_password(password.reveal());
            }
            if let Some(certificates) = certificates {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_certificates(certificates);
            }
            Ok(How::Sentinel(Mutex::new(builder.build()?)))
        }
    }
}

fn certificates(tls: &Tls) -> Result<TlsCertificates, BuildError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| BuildError::Redis {
            reason: format!("cannot read {}: {error}", path.display()),
        })
    };
    let own = tls.own.as_ref().map(|(cert, key)| {
        Ok::<_, BuildError>(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
    });
    Ok(TlsCertificates {
        client_tls: own.transpose()?,
        root_cert: tls.ca.as_deref().map(read).transpose()?,
    })
}
