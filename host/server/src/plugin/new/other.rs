//! A plugin in another language than Rust, with a copy of its SDK, which is on no registry.

use serde_json::json;

use crate::cli::{Language, RoleName};

/// A file of a project: where, and what.
pub(super) type File = (&'static str, Vec<u8>);

const WIT: &str = include_str!("../../../../../wit/frozen/0.1.0/plugin.wit");

/// The files of a project, beside those that all have.
pub(super) fn files(
    language: Language,
    role: RoleName,
    name: &str,
    description: &str,
) -> Vec<File> {
    let text = |text: &str| text.as_bytes().to_vec();
    let source = match language {
        Language::Js => "plugin.js",
        Language::Ts => "plugin.ts",
        Language::Python => "plugin.py",
        Language::C | Language::Rust => "plugin.c",
    };
    let project = json!({
        "name": name,
        "version": "0.1.0",
        "description": description,
        "language": language.as_str(),
        "role": role.as_str(),
        "source": source,
    });
    let mut files = vec![
        ("plugin.json", format!("{project:#}\n").into_bytes()),
        (source, code(language, role).into_bytes()),
        (".gitignore", text(ignored(language))),
    ];
    match language {
        Language::Js | Language::Ts => {
            let is_js = language == Language::Js;
            let module = if is_js { "plugin" } else { "build/plugin" };
            let test = include_str!("js/test.txt").replace("{module}", module);
            let (what, body) = js_test(role);
            let test = test.replace("{what}", what).replace("{body}", body);
            let command = if is_js {
                "node --test"
            } else {
                "tsc -p tsconfig.json && rolldown plugin.ts --format esm --external \
                 sequin:plugin/log@0.1.0 --file build/plugin.js && node --test"
            };
            let package = include_str!("js/package.json.txt").replace("{name}", name);
            files.extend([
                ("plugin.test.mjs", test.into_bytes()),
                ("package.json", package.replace("{test}", command).into_bytes()),
                ("tsconfig.json", text(include_str!("js/tsconfig.json.txt"))),
                ("sequin-plugin.js", text(include_str!("../../../../../sdk/js/sequin-plugin.js"))),
                (
                    "sequin-plugin.d.ts",
                    text(include_str!("../../../../../sdk/js/sequin-plugin.d.ts")),
                ),
                ("wit/plugin.wit", text(WIT)),
            ]);
            if is_js {
                files.retain(|(name, _)| *name != "tsconfig.json");
            }
        }
        Language::Python => {
            let test = include_str!("python/test.txt").replace("{body}", python_test(role));
            files.extend([
                ("test_plugin.py", test.into_bytes()),
                ("requirements.txt", text("componentize-py==0.25.1\n")),
                ("wit/plugin.wit", text(WIT)),
            ]);
            files.extend(PYTHON.map(|(name, source)| (name, text(source))));
        }
        Language::C => {
            let (header, bindings, object) = c_bindings(role);
            files.extend([
                ("sdk/sequin_plugin.h", text(include_str!("../../../../../sdk/c/sequin_plugin.h"))),
                ("sdk/sequin_plugin.c", text(include_str!("../../../../../sdk/c/sequin_plugin.c"))),
                ("sdk/plugin.h", text(header)),
                ("sdk/plugin.c", text(bindings)),
                ("sdk/plugin_component_type.o", object.to_vec()),
            ]);
        }
        Language::Rust => {}
    }
    files
}

/// What is done before the component is built: at a prompt, and in CI.
pub(super) fn commands(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::Rust => (
            "cargo test                # as ordinary Rust",
            "      - run: rustup target add wasm32-unknown-unknown\n      - run: cargo test",
        ),
        Language::Js => (
            "npm test                  # as ordinary JavaScript",
            "      - run: npm install --ignore-scripts && npm test",
        ),
        Language::Ts => (
            "npm install --ignore-scripts && npm test",
            "      - run: npm install --ignore-scripts && npm test",
        ),
        Language::Python => (
            "python3 -m unittest       # as ordinary Python\npython3 -m venv .venv && \
             .venv/bin/pip install -r requirements.txt",
            "      - run: python3 -m unittest\n      - run: python3 -m venv .venv && .venv/bin/pip \
             install -r requirements.txt",
        ),
        Language::C => (
            "pip install ziglang==0.15.2   # or zig 0.15 itself, or WASI_SDK_PATH",
            "      - run: |\n          python3 -m venv .venv && .venv/bin/pip install \
             ziglang==0.15.2\n          ln -s \"$(.venv/bin/python -c 'import os, ziglang; \
             print(os.path.dirname(ziglang.__file__))')/zig\" \"$RUNNER_TEMP/zig\"",
        ),
    }
}

const PYTHON: [(&str, &str); 6] = [
    (
        "sequin_plugin/__init__.py",
        include_str!("../../../../../sdk/python/sequin_plugin/__init__.py"),
    ),
    (
        "sequin_plugin/bindings.py",
        include_str!("../../../../../sdk/python/sequin_plugin/bindings.py"),
    ),
    (
        "sequin_plugin/columns.py",
        include_str!("../../../../../sdk/python/sequin_plugin/columns.py"),
    ),
    ("sequin_plugin/native.py", include_str!("../../../../../sdk/python/sequin_plugin/native.py")),
    ("sequin_plugin/roles.py", include_str!("../../../../../sdk/python/sequin_plugin/roles.py")),
    (
        "sequin_plugin/testing.py",
        include_str!("../../../../../sdk/python/sequin_plugin/testing.py"),
    ),
];

fn ignored(language: Language) -> &'static str {
    match language {
        Language::Js | Language::Ts => "/*.wasm\n/build\n/node_modules\n",
        Language::Python => "/*.wasm\n/.venv\n__pycache__\n",
        Language::C | Language::Rust => "/*.wasm\n/.venv\n/target\n",
    }
}

fn code(language: Language, role: RoleName) -> String {
    match (language, role) {
        (Language::Js, _) => without_types(&code(Language::Ts, role)),
        (Language::Ts, RoleName::Filter) => include_str!("js/filter.txt").to_owned(),
        (Language::Ts, RoleName::Route) => include_str!("js/route.txt").to_owned(),
        (Language::Ts, RoleName::Transform) => include_str!("js/transform.txt").to_owned(),
        (Language::Python, RoleName::Filter) => include_str!("python/filter.txt").to_owned(),
        (Language::Python, RoleName::Route) => include_str!("python/route.txt").to_owned(),
        (Language::Python, RoleName::Transform) => include_str!("python/transform.txt").to_owned(),
        (_, RoleName::Filter) => include_str!("c/filter.txt").to_owned(),
        (_, RoleName::Route) => include_str!("c/route.txt").to_owned(),
        (_, RoleName::Transform) => include_str!("c/transform.txt").to_owned(),
    }
}

/// The JavaScript of the TypeScript above: of its types, those that stand there.
fn without_types(code: &str) -> String {
    let mut plain = String::new();
    for line in code.lines().filter(|line| !line.starts_with("type Config")) {
        plain.push_str(line);
        plain.push('\n');
    }
    for gone in ["type Out, ", "type Row, ", "<Config>", ": Config", ": Row", ": Out", ": string"] {
        plain = plain.replace(gone, "");
    }
    plain.replace("\n\n\n", "\n\n")
}

fn js_test(role: RoleName) -> (&'static str, &'static str) {
    match role {
        RoleName::Filter => (
            "rows are kept by their column",
            "const rows = [{ is_public: true }, { is_public: false }, { is_public: null }];\n  \
             assert.deepEqual(run(plugin, { column: 'is_public' }, rows), ['keep', 'evict', \
             'evict']);\n  const [failed] = run(plugin, { column: 'is_public' }, [{ is_public: \
             UNCHANGED }]);\n  assert.equal(failed.column, 'is_public');",
        ),
        RoleName::Route => (
            "each table has a path",
            "const routes = run(plugin, { below: '/changes' }, [{}], { table: 'public.poi' });\n  \
             assert.deepEqual(routes, [{ endpoint_path: '/changes/public/poi' }]);\n  \
             assert.equal(typeof UNCHANGED, 'symbol');",
        ),
        RoleName::Transform => (
            "a text is added in lower case",
            "const rows = [{ name: '\u{17d}' }, { name: null }, { name: UNCHANGED }];\n  \
             const lower = [{ name_lower: '\u{17e}' }, { name_lower: null }, {}];\n  \
             assert.deepEqual(run(plugin, { column: 'name' }, rows), lower);",
        ),
    }
}

fn python_test(role: RoleName) -> &'static str {
    match role {
        RoleName::Filter => {
            "rows = [{\"is_public\": shown} for shown in (True, False, None, UNCHANGED)]\n        \
             outcomes = testing.run(plugin.Plugin, {\"column\": \"is_public\"}, rows)\n        \
             self.assertEqual(outcomes[:3], [KEEP, EVICT, EVICT])\n        \
             self.assertEqual(outcomes[3].column, \"is_public\")"
        }
        RoleName::Route => {
            "routes = testing.run(plugin.Plugin, {\"below\": \"/changes\"}, [{}], \
             table=\"public.poi\")\n        \
             self.assertEqual(routes, [{\"endpoint_path\": \"/changes/public/poi\"}])\n        \
             self.assertNotEqual(KEEP, EVICT)\n        self.assertIsNot(UNCHANGED, None)"
        }
        RoleName::Transform => {
            "rows = [{\"name\": \"\u{17d}\"}, {\"name\": None}, {\"name\": UNCHANGED}]\n        \
             outcomes = testing.run(plugin.Plugin, {\"column\": \"name\"}, rows)\n        \
             self.assertEqual(outcomes, [{\"name_lower\": \"\u{17e}\"}, {\"name_lower\": None}, \
             {}])\n        self.assertNotEqual(KEEP, EVICT)"
        }
    }
}

fn c_bindings(role: RoleName) -> (&'static str, &'static str, &'static [u8]) {
    match role {
        RoleName::Filter => (
            include_str!("../../../../../sdk/c/filter/plugin.h"),
            include_str!("../../../../../sdk/c/filter/plugin.c"),
            include_bytes!("../../../../../sdk/c/filter/plugin_component_type.o"),
        ),
        RoleName::Route => (
            include_str!("../../../../../sdk/c/route/plugin.h"),
            include_str!("../../../../../sdk/c/route/plugin.c"),
            include_bytes!("../../../../../sdk/c/route/plugin_component_type.o"),
        ),
        RoleName::Transform => (
            include_str!("../../../../../sdk/c/transform/plugin.h"),
            include_str!("../../../../../sdk/c/transform/plugin.c"),
            include_bytes!("../../../../../sdk/c/transform/plugin_component_type.o"),
        ),
    }
}
