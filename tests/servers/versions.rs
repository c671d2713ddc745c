//! The versions of PostgreSQL that a test runs on. `PGBIN=/path/bin` puts that build in the place of each.

/// Makes each of the functions named, which take a version and return a `Result`, a test on each of the versions:
/// `tests_on!(postgresql_10 10, postgresql_18 18: [follows_its_primary, promotes])`.
macro_rules! tests_on {
    ($($module:ident $major:literal),*: $tests:tt) => {
        $(tests_on!(@ $module $major $tests);)*
    };
    (@ $module:ident $major:literal [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $test() -> crate::machine::Result<()> {
                    super::$test(crate::machine::Installation::major_to_test($major)?)
                }
            )*
        }
    };
}

/// The same on every version that there are servers of.
macro_rules! tests_on_every_version {
    ($($test:ident),* $(,)?) => {
        tests_on!(
            postgresql_10 10, postgresql_11 11, postgresql_12 12, postgresql_13 13, postgresql_14 14,
            postgresql_15 15, postgresql_16 16, postgresql_17 17, postgresql_18 18: [$($test),*]
        );
    };
}
