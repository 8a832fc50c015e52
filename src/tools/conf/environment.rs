//! What of a caller's environment the command of akashita-conf gets.
//!
//! The environment is trusted as far as akashita(7) lists it. What the
//! configuration says is never taken from it, and nothing in it overrules that.

/// Whether a variable of the caller is kept from the command, given whether
/// the configuration names an endpoint.
pub fn is_kept_out(name: &str, has_endpoint: bool) -> bool {
    match name {
        // It runs programs, and changes what is in an archive.
        "TAR_OPTIONS" => true,
        // Each is above AWS_ENDPOINT_URL for the SDK.
        "AWS_ENDPOINT_URL_GLACIER" | "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" => has_endpoint,
        name => name.starts_with("AKASHITA_") || name.starts_with("GLACIER_"),
    }
}
