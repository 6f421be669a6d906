//! What wit-bindgen makes of the interfaces.
//!
//! One world per interface instead of the published ones: wit-bindgen names a macro after each
//! exported interface, so one that is in several worlds would be defined several times. The linker
//! puts together the worlds of the macros that a plugin uses, which makes it one of the published
//! ones again; a macro that is not used leaves no trace. The shared types are generated once and
//! lent to each, so that a row is the same type in a filter and in a transform.

mod shared {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sequin:sdk;
            world shared {
                import sequin:plugin/types@0.2.0;
                import sequin:plugin/log@0.2.0;
                import sequin:plugin/calls@0.2.0;
                import sequin:plugin/clock@0.2.0;
                import sequin:plugin/random@0.2.0;
                import sequin:plugin/secrets@0.2.0;
                import sequin:plugin/kv@0.2.0;
                import sequin:plugin/http@0.2.0;
                import sequin:plugin/lookup@0.2.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
    });
}

pub use shared::sequin::plugin::{calls, clock, http, kv, log, lookup, random, secrets, types};

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sequin:sdk;
            world configured {
                export sequin:plugin/lifecycle@0.2.0;
            }
        ",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "sequin_plugin::bindings::lifecycle",
    });
    pub use exports::sequin::plugin::lifecycle::{
        ConfigError, Description, Guest, Reads, Requirements,
    };
}

pub mod filter {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sequin:sdk;
            world filtering {
                export sequin:plugin/filter@0.2.0;
            }
        ",
        with: { "sequin:plugin/types@0.2.0": crate::bindings::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_filter",
        default_bindings_module: "sequin_plugin::bindings::filter",
    });
    pub use exports::sequin::plugin::filter::Guest;
}

pub mod route {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sequin:sdk;
            world routing {
                export sequin:plugin/route@0.2.0;
            }
        ",
        with: { "sequin:plugin/types@0.2.0": crate::bindings::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_route",
        default_bindings_module: "sequin_plugin::bindings::route",
    });
    pub use exports::sequin::plugin::route::Guest;
}

pub mod transform {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package sequin:sdk;
            world transforming {
                export sequin:plugin/transform@0.2.0;
            }
        ",
        with: { "sequin:plugin/types@0.2.0": crate::bindings::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_transform",
        default_bindings_module: "sequin_plugin::bindings::transform",
    });
    pub use exports::sequin::plugin::transform::Guest;
}
