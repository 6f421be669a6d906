//! A private authority, and the certificates of a server and its client.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Where the PEM files are that a client needs.
#[derive(Clone, Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// The certificate of the authority: `sslrootcert`.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("authority.crt")
    }

    /// The certificate of the client, for the role `postgres`: `sslcert`.
    pub fn client(&self) -> PathBuf {
        self.dir.join("client.crt")
    }

    /// Its key: `sslkey`.
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }

    /// Makes everything: the files of the server in its data directory, under the names that it
    /// looks for, and those of the client beside it.
    pub(crate) fn make(dir: &Path, data: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = named("authority of the tests", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);

        let write = |path: PathBuf, text: String| {
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        let hosts = ["localhost", "127.0.0.1", "::1"];
        for (name, hosts, to) in
            [("server", &hosts[..], data.join("server")), ("postgres", &[], dir.join("client"))]
        {
            let key = KeyPair::generate()?;
            let certificate = named(name, hosts)?.signed_by(&key, &issuer)?;
            write(to.with_extension("crt"), certificate.pem())?;
            write(to.with_extension("key"), key.serialize_pem())?;
        }
        write(data.join("root.crt"), authority.clone())?;
        let made = Self { dir: dir.to_path_buf() };
        write(made.authority(), authority)?;
        Ok(made)
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
