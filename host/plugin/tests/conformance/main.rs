//! The contract, guest by guest: the same scenarios over components of several languages, all of
//! which do what `plugins/conformance/README.md` says.
//!
//! The one in C is kept as it was built for the frozen contract of 0.1.0, and so stands for plugins
//! that nobody builds again. `cargo x plugins` builds the one in Rust, `cargo x guests` the one in
//! JavaScript.

/// Runs scenarios of the file over each guest, as tests of their own. Those after `but javascript`
/// are of integers that its Numbers do not hold.
#[cfg(test)]
macro_rules! over_each_guest {
    ($($scenario:ident),+ $(; but javascript: $($exact:ident),+)? $(,)?) => {
        over_each_guest!(in rust: crate::guests::RUST; $($scenario,)+ $($($exact),+)?);
        over_each_guest!(in c: crate::guests::C; $($scenario,)+ $($($exact),+)?);
        over_each_guest!(in javascript: crate::guests::JAVASCRIPT; $($scenario),+);
    };
    (in $module:ident: $guest:expr; $($scenario:ident),+ $(,)?) => {
        mod $module {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&$guest).await;
            })+
        }
    };
}

// `cfg(test)` is always so here; clippy knows by it that helpers are tests too.
#[cfg(test)]
mod answers;
#[cfg(test)]
mod guests;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod lines;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod values;
