//! Configurations and what becomes of them, as pairs of files in `ui/`: `name.yaml` goes in,
//! `name.out` must come out, the spec if it is good and the diagnostics if it is not.
//!
//! To change what is expected, delete the `.out`: the test fails once, writes it anew, and the
//! difference is reviewed like code.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests say what they expect by failing")]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use config::portable::{Around, Portable};
use config::spec::{Component, FunctionKind};
use config::{Diagnostic, Spec, Surroundings};

/// In every text that must not be seen.
const SECRET: &str = "hunter2";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "PG_HOST" => "db.internal",
        "PG_PORT" => "6543",
        // YAML, if it were read as YAML.
        "ODD" => "a: b # c\nd: [",
        "SECRET" => SECRET,
        "YES" => "true",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/srv/app/enrichment.sql") => Ok("select id from t where id = any($1)".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui")
}

fn render(diagnostics: &[Diagnostic]) -> String {
    let texts: Vec<_> = diagnostics.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

fn check(name: &str) {
    let yaml = format!("{name}.yaml");
    let text = std::fs::read_to_string(directory().join(&yaml)).unwrap();
    let mut out = String::new();
    match read(&yaml, &text, &env) {
        Ok((spec, warnings)) => {
            writeln!(out, "{spec:#?}").unwrap();
            if !warnings.is_empty() {
                writeln!(out, "\n{}", render(&warnings)).unwrap();
            }
        }
        Err(diagnostics) => out = render(&diagnostics),
    }
    assert!(!out.contains(SECRET), "a secret shows:\n{out}");
    let expected = directory().join(format!("{name}.out"));
    match std::fs::read_to_string(&expected) {
        Ok(expected) => assert!(out == expected, "instead of\n{expected}\ncame\n{out}"),
        Err(_) => {
            std::fs::write(&expected, &out).unwrap();
            panic!("{} was not there and is written: review it", expected.display());
        }
    }
}

macro_rules! pairs {
    ($(fn $name:ident;)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_file_has_a_test() {
            for file in std::fs::read_dir(directory()).unwrap() {
                let name = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
                assert!([$(stringify!($name)),*].contains(&name.as_str()), "{name}");
            }
        }
    };
}

pairs! {
    fn api_token_mistakes;
    fn api_tokens;
    fn plugin_version_mistakes;
    fn plugin_versions;
    fn b269_grants;
    fn b269_grants_mistakes;
    fn maximal;
    fn change_retentions;
    fn change_retention_mistakes;
    fn moved;
    fn moved_mistakes;
    fn minimal;
    fn nothing;
    fn forms_of_the_predecessor;
    fn environment;
    fn b019_truncate;
    fn b079_tables_by_oid;
    fn b079_bad_oids;
    fn b126_bare_messages_one_by_one;
    fn b240_a_mistake_hides_no_other;
    fn b240_every_mistake_at_once;
    fn b241_malformed_yaml;
    fn b241_not_a_map;
    fn b241_duplicate_key;
    fn b241_tab;
    fn b241_unclosed;
    fn b242_duplicate_names;
    fn b243_unknown_keys;
    fn b243_not_supported_yet;
    fn b243_ignored_keys;
    fn b244_missing_variable;
    fn b245_anchors;
    fn b245_mistake_in_an_anchor;
    fn b245_unknown_anchor;
    fn b245_merge_lists;
    fn b246_both_forms;
    fn b246_forms_that_fit;
    fn b248_include_and_exclude;
    fn b249_grouping_mistakes;
    fn b250_dangling_references;
    fn b251_functions;
    fn b256_url_and_fields;
    fn b257_numbers_out_of_bounds;
    fn b237_secrets_never_show;
    fn wrong_types;
    fn endpoints;
    fn environment_mistakes;
    fn function_policies;
    fn functions;
    fn function_mistakes;
    fn grouping;
    fn tls;
    fn tls_mistakes;
    fn slot_mistakes;
    fn b178_primary;
    fn b178_primary_mistakes;
    fn several_hosts;
    fn signature_mistakes;
    fn signatures;
    fn several_hosts_mistakes;
    fn streams_and_files;
    fn streams_and_files_mistakes;
}

/// Every configuration here that is good, by its name.
fn good() -> Vec<(String, String)> {
    let files = std::fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let texts = files.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap()));
    texts.filter(|(name, text)| read(name, text, &env).is_ok()).collect()
}

fn read(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Spec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let around = Surroundings {
        base_dir: Path::new("/srv/app"),
        plugin_dir: Path::new("/srv/plugins"),
        env,
        read_file: &file,
    };
    config::read(name, text, &around)
}

#[test]
fn b244_b245_what_is_filled_in_means_the_same_without_the_environment() {
    let good = good();
    assert!(good.len() > 10, "{}", good.len());
    for (name, text) in good {
        let (spec, _) = read(&name, &text, &env).unwrap();
        let filled_in = config::interpolate(&name, &text, &env).unwrap();
        let again = read(&name, &filled_in, &|_| None);
        let (again, _) = again.unwrap_or_else(|errors| panic!("{filled_in}{}", render(&errors)));
        assert_eq!(again, spec, "{filled_in}");
        assert!(!filled_in.contains("<<"), "{filled_in}");
    }
}

/// A configuration that was made portable means what it meant, is written the same again, and shows no
/// secret where it is to show none.
#[test]
fn b237_b255_what_is_portable_means_what_it_meant_and_shows_no_secret() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (name, text) in good() {
        let around = Around {
            env: Some(&env),
            base_dir: Path::new("/srv/app"),
            read_file: &file,
            component: &|_, _| Ok(digest.clone()),
            version: &|_| Ok(digest.clone()),
        };
        let portable = |text: &str| {
            let read = Portable::read(&name, text, &around);
            read.unwrap_or_else(|errors| panic!("{name}: {}", render(&errors)))
        };
        let made = portable(&text);
        let written = made.text();
        let again = portable(&written);
        assert_eq!(again.text(), written, "{name}");
        assert_eq!(again.differences(&made), [], "{name}");
        let (mut spec, _) = read(&name, &text, &env).unwrap();
        for function in &mut spec.functions {
            if let FunctionKind::Plugin(plugin) = &mut function.kind
                && matches!(plugin.component, Component::File(_))
            {
                plugin.component = Component::Digest(digest.clone());
            }
        }
        for version in spec.versions.iter_mut().filter(|version| version.source.is_some()) {
            (version.digest, version.source) = (Some(digest.clone()), None);
        }
        let (meant, _) = read(&name, &written, &|_| None)
            .unwrap_or_else(|errors| panic!("{written}{}", render(&errors)));
        assert_eq!(meant, spec, "{name}: {written}");
        let shown: String = made.shown().map(|(_, json)| json).collect();
        for shown in [made.text_without_secrets(), shown] {
            assert!(!shown.contains(SECRET), "{name}: a secret shows:\n{shown}");
        }
    }
}

#[test]
fn b244_a_missing_variable_fills_in_nothing() {
    let errors = config::interpolate("a.yaml", "a: 1\nb: x-${NONE}", &|_| None).unwrap_err();
    let [error] = errors.as_slice() else { panic!("{}", render(&errors)) };
    assert_eq!((error.line, error.column), (2, 4));
    assert!(error.message.contains("`NONE`"), "{error}");
}

#[test]
fn the_sample_of_the_repository_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sequin.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let around = Surroundings {
        base_dir: Path::new("."),
        plugin_dir: Path::new("plugins"),
        env: &|_| None,
        read_file: &file,
    };
    let read = config::read("sequin.yaml", &text, &around);
    let (spec, warnings) = read.unwrap_or_else(|errors| panic!("{}", render(&errors)));
    assert!(warnings.is_empty(), "{}", render(&warnings));
    assert_eq!((spec.databases.len(), spec.functions.len(), spec.sinks.len()), (1, 11, 12));
}
