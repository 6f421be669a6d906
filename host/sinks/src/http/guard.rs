//! Which addresses requests may go to.
//!
//! What is checked is the address that is connected to, after the name was resolved: a name that
//! means something else a moment later (DNS rebinding) gains nothing. Redirects are not followed, so
//! there is no second address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use options::Address;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::BuildError;

/// What is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Link-local addresses and the services that tell a cloud's machines their credentials. No
    /// receiver of messages is there. An engine of one's own otherwise posts where it likes, and
    /// mostly to services inside.
    #[default]
    Metadata,
    /// And every address that is not of the public internet: for an engine whose configuration is
    /// written by others than those who run it.
    Internal,
    /// Nothing.
    Off,
}

/// An address, or all that a name stands for, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} addresses are refused (SEQUIN_HTTP_GUARD)")]
pub(crate) struct Refused {
    what: &'static str,
}

impl Guard {
    /// # Errors
    /// The address is refused.
    pub(crate) fn check(self, ip: IpAddr) -> Result<(), Refused> {
        let ip = plain(ip);
        let refused = match self {
            Self::Off => None,
            Self::Metadata => metadata(ip),
            Self::Internal => metadata(ip).or_else(|| internal(ip)),
        };
        refused.map_or(Ok(()), |what| Err(Refused { what }))
    }

    /// A URL that holds an address needs no resolving, so it is checked before anything is sent.
    ///
    /// # Errors
    /// The address is refused.
    pub(crate) fn check_url(self, address: &Address) -> Result<(), BuildError> {
        let ip = match address.reveal().host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        let refused = |refused: Refused| BuildError::Refused {
            address: address.clone(),
            reason: refused.to_string(),
        };
        self.check(ip).map_err(refused)
    }

    /// The addresses of a name that are not refused.
    ///
    /// # Errors
    /// It cannot be resolved, or all its addresses are refused.
    pub(crate) async fn resolve(self, name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let mut good = Vec::new();
        let mut refused = None;
        for address in tokio::net::lookup_host((name, port)).await? {
            match self.check(address.ip()) {
                Ok(()) => good.push(address),
                Err(reason) => refused = Some(reason),
            }
        }
        match refused {
            Some(refused) if good.is_empty() => Err(std::io::Error::other(refused)),
            _ => Ok(good),
        }
    }
}

/// Names for the client's connections: reqwest fills in the port.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found = guard.resolve(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl std::str::FromStr for Guard {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "metadata" => Ok(Self::Metadata),
            "internal" => Ok(Self::Internal),
            "off" => Ok(Self::Off),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "metadata",
            Self::Internal => "internal",
            Self::Off => "off",
        })
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does: mapped, compatible, NAT64
/// (RFC 6052), 6to4 (RFC 3056).
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            v4(high, low)
        }
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

fn metadata(ip: IpAddr) -> Option<&'static str> {
    // AWS and GCP over IPv6.
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GCP: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Some("link-local (cloud metadata)"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(AWS | GCP) => Some("cloud metadata"),
        IpAddr::V4(ip) => match ip.octets() {
            // Alibaba Cloud, Azure, Oracle Cloud.
            [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Some("cloud metadata"),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// What the registries of special addresses (RFC 6890) do not call globally reachable.
fn internal(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_loopback() => Some("loopback"),
        // They reach this machine.
        _ if ip.is_unspecified() => Some("unspecified"),
        _ if ip.is_multicast() => Some("multicast"),
        IpAddr::V4(ip) if ip.is_private() => Some("private"),
        IpAddr::V4(ip) => match ip.octets() {
            [0, ..] => Some("unspecified"),
            // Carrier-grade NAT (RFC 6598), and what overlay networks use.
            [100, 64..128, ..] => Some("shared"),
            [192, 0, 0, _] | [198, 18 | 19, ..] | [240..=255, ..] => Some("reserved"),
            _ => None,
        },
        IpAddr::V6(ip) if ip.is_unique_local() => Some("private"),
        // Site-local, deprecated (RFC 3879).
        IpAddr::V6(ip) if matches!(ip.segments(), [0xfec0..=0xfeff, ..]) => Some("private"),
        // Local NAT64 (RFC 8215): what it stands for is known to the network alone.
        IpAddr::V6(ip) if matches!(ip.segments(), [0x64, 0xff9b, 1, ..]) => Some("private"),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(guard: Guard, ip: &str) -> bool {
        guard.check(ip.parse().unwrap()).is_ok()
    }

    #[test]
    fn metadata_services_are_refused_in_every_notation() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            assert!(!allows(Guard::Metadata, ip), "{ip}");
            assert!(!allows(Guard::Internal, ip), "{ip}");
            assert!(allows(Guard::Off, ip), "{ip}");
        }
    }

    #[test]
    fn internal_addresses_are_refused_only_on_request() {
        for ip in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:a00:1::",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(allows(Guard::Metadata, ip), "{ip}");
            assert!(!allows(Guard::Internal, ip), "{ip}");
        }
    }

    #[test]
    fn public_addresses_are_never_refused() {
        for ip in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert!(allows(Guard::Internal, ip), "{ip}");
        }
    }

    /// A name is judged by what it resolves to.
    #[tokio::test]
    async fn a_name_that_means_this_machine_is_refused_when_internal_ones_are() {
        let error = Guard::Internal.resolve("localhost", 80).await.unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
        assert!(!Guard::Metadata.resolve("localhost", 80).await.unwrap().is_empty());
    }
}
