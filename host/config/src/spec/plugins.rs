//! Whose signatures are asked for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::versions::check_name;

use super::{PublicKey, SignatureRule, Signatures};
use crate::diagnostic::{Place, Report};
use crate::document::{PlacedPlugins, plugins};

/// What stands before the key in a SubjectPublicKeyInfo: of Ed25519 (RFC 8410), and of a point on
/// P-256 that is not compressed (RFC 5480).
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_BYTES: usize = 32;
const P256_BYTES: usize = 65;

pub(super) fn resolve(
    written: Option<&PlacedPlugins>,
    report: &mut Report<'_>,
) -> Option<Signatures> {
    let PlacedPlugins { value, place, .. } = written?;
    let given = value.signatures.as_ref()?;
    report.enter("plugins");
    let mut keys = Vec::new();
    for (at, key) in given.keys.iter().enumerate() {
        if given.keys.iter().take(at).any(|other| other.name == key.name) {
            report.error(*place, format_args!("the key `{}` is given twice", key.name));
        }
        match public_key(&key.public_key) {
            Some(public) => keys.push((key.name.clone(), public)),
            None => report.error_with_help(
                *place,
                format_args!("`public_key` of `{}` is none that is known", key.name),
                "Ed25519 or ECDSA P-256 in PEM, as `cosign generate-key-pair` and `openssl pkey \
                 -pubout` write it",
            ),
        }
    }
    let mut rules: Vec<SignatureRule> = Vec::new();
    for (at, rule) in given.require.iter().enumerate() {
        if given.require.iter().take(at).any(|other| other.plugin == rule.plugin) {
            let message = format!("`require` names `{}` twice: say all in one", rule.plugin);
            report.error(*place, message);
        }
        rules.extend(self::rule(rule, &given.keys, *place, report));
    }
    if given.require.is_empty() {
        let help =
            "a plugin that no entry is for is refused: with `plugin: '*'` one is for the rest";
        report.error_with_help(*place, "`require` is empty", help);
    }
    report.leave();
    Some(Signatures { keys, rules })
}

fn rule(
    rule: &plugins::Rule,
    keys: &[plugins::Key],
    place: Place,
    report: &mut Report<'_>,
) -> Option<SignatureRule> {
    let plugin = &rule.plugin;
    // A `*` at the end stands for any end; the rest is the beginning of a name.
    let fixed = plugin.strip_suffix('*').unwrap_or(plugin);
    let as_name = if fixed.len() < plugin.len() { format!("{fixed}x") } else { fixed.to_owned() };
    if let Err(wrong) = check_name(&as_name).or_else(|wrong| match plugin.as_str() {
        "*" => Ok(()),
        _ => Err(wrong),
    }) {
        let help = "a name, or the beginning of names and a `*`";
        report.error_with_help(place, format_args!("`require`: {wrong}"), help);
        return None;
    }
    let (signers, all) = match (&rule.any_of, &rule.all_of) {
        (Some(any), None) if !any.is_empty() => (any, false),
        (None, Some(all)) if !all.is_empty() => (all, true),
        _ => {
            let message = format!("`require` of `{plugin}` needs either `any_of` or `all_of`");
            report.error_with_help(place, message, "each is a list of names of `keys`");
            return None;
        }
    };
    for signer in signers {
        if !keys.iter().any(|key| key.name == *signer) {
            let message = format!("`require` of `{plugin}`: there is no key `{signer}`");
            report.error(place, message);
        }
    }
    Some(SignatureRule { plugin: plugin.clone(), signers: signers.clone(), all })
}

/// PEM, or the base64 in it alone.
fn public_key(text: &str) -> Option<PublicKey> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let base64: String = lines.collect();
    let der = STANDARD.decode(base64).ok()?;
    if let Some(key) = der.strip_prefix(ED25519) {
        return (key.len() == ED25519_BYTES).then(|| PublicKey::Ed25519(key.to_vec()));
    }
    let key = der.strip_prefix(P256)?;
    (key.len() == P256_BYTES && key.first() == Some(&4)).then(|| PublicKey::P256(key.to_vec()))
}
