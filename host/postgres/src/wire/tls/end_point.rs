//! `tls-server-end-point`: a digest of the server's certificate, by which both ends of a login know
//! that they share one TLS session. RFC 5929, section 4.1.

use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

// Object identifiers, as DER holds them.
const MD5_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x04];
const SHA1_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x05];
const PSS_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const SHA256_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B];
const SHA384_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0C];
const SHA512_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0D];
const SHA224_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0E];
const SHA1_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01];
const SHA224_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x01];
const SHA256_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
const SHA384_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03];
const SHA512_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The first field of the parameters of RSASSA-PSS.
const HASH_ALGORITHM: u8 = 0xA0;

/// The digest by the function that the certificate is signed with; SHA-256 where that is MD5 or
/// SHA-1. None if it has none of its own (Ed25519) or we do not know it.
pub(crate) fn of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (algorithm, parameters) = signature_algorithm(certificate)?;
    Some(match algorithm {
        MD5_RSA | SHA1_RSA | SHA1_ECDSA | SHA256_RSA | SHA256_ECDSA => {
            Sha256::digest(certificate).to_vec()
        }
        SHA224_RSA | SHA224_ECDSA => Sha224::digest(certificate).to_vec(),
        SHA384_RSA | SHA384_ECDSA => Sha384::digest(certificate).to_vec(),
        SHA512_RSA | SHA512_ECDSA => Sha512::digest(certificate).to_vec(),
        PSS_RSA => match pss_hash(parameters) {
            // None: SHA-1, the default.
            None | Some(SHA256) => Sha256::digest(certificate).to_vec(),
            Some(SHA384) => Sha384::digest(certificate).to_vec(),
            Some(SHA512) => Sha512::digest(certificate).to_vec(),
            Some(_) => return None,
        },
        _ => return None,
    })
}

/// Certificate ::= SEQUENCE { what is signed, SEQUENCE { algorithm, parameters }, signature }
fn signature_algorithm(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (SEQUENCE, body, _) = element(certificate)? else { return None };
    let (SEQUENCE, _, rest) = element(body)? else { return None };
    let (SEQUENCE, algorithm, _) = element(rest)? else { return None };
    let (OBJECT_IDENTIFIER, identifier, parameters) = element(algorithm)? else { return None };
    Some((identifier, parameters))
}

fn pss_hash(parameters: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, fields, _) = element(parameters)? else { return None };
    let (HASH_ALGORITHM, hash, _) = element(fields)? else { return None };
    let (SEQUENCE, hash, _) = element(hash)? else { return None };
    let (OBJECT_IDENTIFIER, identifier, _) = element(hash)? else { return None };
    Some(identifier)
}

/// The first element of some DER: its tag and content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // So many bytes of length follow. A certificate does not need more.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    fn certificate(algorithm: &[u8], parameters: &[u8]) -> Vec<u8> {
        let algorithm = wrap(OBJECT_IDENTIFIER, &[algorithm]);
        let algorithm = wrap(SEQUENCE, &[&algorithm, parameters]);
        wrap(SEQUENCE, &[&wrap(SEQUENCE, &[&[0; 300]]), &algorithm, &wrap(3, &[&[1, 2]])])
    }

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let ed25519 = &[0x2B, 0x65, 0x70];
        for (algorithm, length) in [
            (MD5_RSA, Some(32)),
            (SHA1_ECDSA, Some(32)),
            (SHA256_RSA, Some(32)),
            (SHA224_ECDSA, Some(28)),
            (SHA384_ECDSA, Some(48)),
            (SHA512_RSA, Some(64)),
            (PSS_RSA, Some(32)),
            (ed25519, None),
        ] {
            let digest = of(&certificate(algorithm, &[]));
            assert_eq!(digest.map(|digest| digest.len()), length, "{algorithm:x?}");
        }
        let hash = wrap(SEQUENCE, &[&wrap(OBJECT_IDENTIFIER, &[SHA384])]);
        let pss = wrap(SEQUENCE, &[&wrap(HASH_ALGORITHM, &[&hash])]);
        assert_eq!(of(&certificate(PSS_RSA, &pss)).map(|digest| digest.len()), Some(48));
    }

    #[test]
    fn a_cut_certificate_has_none() {
        let whole = certificate(SHA256_RSA, &[5, 0]);
        for cut in 0..whole.len() {
            assert_eq!(of(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
