//! TLS to a database: libpq's options, as keys or as parameters of the `url`.

use std::path::Path;

use super::super::{ChannelBinding, ClientCertificate, Roots, SslMode, Tls};
use super::server::Part;
use crate::diagnostic::{Place, Report};

/// One option: its name, what was given, and where.
struct Word<'a> {
    name: &'static str,
    given: Option<(&'a str, Place)>,
}

pub(super) fn resolve(
    from: &Part<'_>,
    parameters: &[(String, String)],
    base_dir: &Path,
    report: &mut Report<'_>,
) -> Option<Tls> {
    let fields = from.fields;
    let word = |name, value: Option<_>| Word {
        name,
        given: value.map(|value| (value, from.place(&[name]))),
    };
    let mut words = [
        word("sslmode", fields.sslmode.as_deref()),
        word("sslrootcert", fields.sslrootcert.as_deref()),
        word("sslcert", fields.sslcert.as_deref()),
        word("sslkey", fields.sslkey.as_deref()),
        word("channel_binding", fields.channel_binding.as_deref()),
    ];
    let place = from.place(&["url"]);
    let before = report.errors();
    for (name, value) in parameters {
        match words.iter_mut().find(|word| word.name == name) {
            None => {
                let help = "known are `sslmode`, `sslrootcert`, `sslcert`, `sslkey` and \
                            `channel_binding`";
                let message = format!("`url` has a parameter `{name}`, which is not known");
                report.error_with_help(place, message, help);
            }
            Some(word) if word.given.is_some() => {
                report.error(place, format_args!("`{name}` is given twice"));
            }
            Some(word) => word.given = Some((value, place)),
        }
    }
    let [mode, roots, certificate, key, binding] = words.map(|word| word.given);

    let roots = roots.map(|(text, place)| {
        let system = text == "system";
        (if system { Roots::System } else { Roots::File(base_dir.join(text)) }, place)
    });
    let system = matches!(roots, Some((Roots::System, _)));
    // As libpq: everybody can have a certificate of a public authority, for his own name.
    let unless_system = |mode| if system { SslMode::VerifyFull } else { mode };
    let mode = match (fields.ssl, mode) {
        (Some(_), Some((_, place))) => {
            let help = "keep `sslmode`: `ssl: true` is `require`, `ssl: false` is `disable`";
            report.error_with_help(place, "`ssl` and `sslmode` cannot be given together", help);
            None
        }
        (Some(false), None) => Some(SslMode::Disable),
        (Some(true), None) => Some(unless_system(SslMode::Require)),
        (None, None) => Some(unless_system(SslMode::Prefer)),
        (None, Some((text, place))) => read_mode(text, place, report),
    };
    let mode_place = mode_place(from, place);
    if matches!(mode, Some(SslMode::VerifyCa | SslMode::VerifyFull)) && roots.is_none() {
        let help = "give it: a PEM file with the certificate of whom to trust, or `system`";
        report.error_with_help(mode_place, "to verify, `sslrootcert` is needed", help);
    }
    if let Some((Roots::System, place)) = roots
        && !matches!(mode, None | Some(SslMode::VerifyFull))
    {
        let help = "anybody can have a certificate that the system trusts, for another name";
        let message = "`sslrootcert: system` needs `sslmode: verify-full`";
        report.error_with_help(place, message, help);
    }
    let client = match (certificate, key) {
        (Some((certificate, _)), Some((key, _))) => Some(ClientCertificate {
            certificate: base_dir.join(certificate),
            key: base_dir.join(key),
        }),
        (None, None) => None,
        (Some((_, place)), None) | (None, Some((_, place))) => {
            report.error(place, "`sslcert` and `sslkey` must be given together");
            None
        }
    };
    let channel_binding = match binding {
        None => ChannelBinding::Prefer,
        Some(("disable", _)) => ChannelBinding::Disable,
        Some(("prefer", _)) => ChannelBinding::Prefer,
        Some(("require", place)) => {
            if mode == Some(SslMode::Disable) {
                report.error(place, "`channel_binding: require` needs TLS, which is off");
            }
            ChannelBinding::Require
        }
        Some((_, place)) => {
            let message = "`channel_binding` must be `disable`, `prefer` or `require`";
            report.error(place, message);
            ChannelBinding::Prefer
        }
    };
    let tls = Tls { mode: mode?, roots: roots.map(|(roots, _)| roots), client, channel_binding };
    (report.errors() == before).then_some(tls)
}

fn mode_place(from: &Part<'_>, url: Place) -> Place {
    if from.fields.sslmode.is_some() { from.place(&["sslmode"]) } else { url }
}

fn read_mode(text: &str, place: Place, report: &mut Report<'_>) -> Option<SslMode> {
    match text {
        "disable" => Some(SslMode::Disable),
        "prefer" => Some(SslMode::Prefer),
        "require" => Some(SslMode::Require),
        "verify-ca" => Some(SslMode::VerifyCa),
        "verify-full" => Some(SslMode::VerifyFull),
        "allow" => {
            let help = "use `prefer`, which encrypts where it can";
            report.error_with_help(place, "`sslmode: allow` is not supported", help);
            None
        }
        _ => {
            let help = "it is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`";
            report.error_with_help(place, "`sslmode` is none that is known", help);
            None
        }
    }
}
