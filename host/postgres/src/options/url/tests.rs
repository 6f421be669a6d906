use super::*;

fn summary(url: &str) -> String {
    let options = match Options::from_url(url) {
        Ok(options) => options,
        Err(error) => return error.to_string(),
    };
    let password = options.password.as_ref().map(|password| password.as_bytes().to_vec());
    let password = password.map(|bytes| format!(":{}", String::from_utf8(bytes).unwrap()));
    format!(
        "{}{} @ {} / {}",
        options.user,
        password.unwrap_or_default(),
        options.addresses(),
        options.database
    )
}

#[test]
fn urls_in_all_their_forms() {
    for (url, expected) in [
        ("postgresql://u@h", "u @ h:5432 / u"),
        ("postgres://u:p@h:1/d", "u:p @ h:1 / d"),
        ("postgresql://u:@h/d", "u @ h:5432 / d"),
        ("postgresql://a%40b:%2F%3a%C3%A9@h/x%20y", "a@b:/:é @ h:5432 / x y"),
        ("postgresql://u:p#?x@h/d", "u:p#?x @ h:5432 / d"),
        ("postgresql://u@[::1]:6/d", "u @ [::1]:6 / d"),
        ("postgresql://u@[2001:db8::1]", "u @ [2001:db8::1]:5432 / u"),
        ("postgresql://u@127.0.0.1:6", "u @ 127.0.0.1:6 / u"),
        ("postgresql://u@a,b:2,[::1]:3/d", "u @ a:5432,b:2,[::1]:3 / d"),
        ("postgresql://u@a:1,b/d", "u @ a:1,b:5432 / d"),
        ("postgresql://u@a,b/d?port=7", "u @ a:7,b:7 / d"),
        ("postgresql:///d?host=/tmp&user=u", "u @ /tmp:5432 / d"),
        ("postgresql://u@%2Ftmp:6/d", "u @ /tmp:6 / d"),
        ("postgresql://u@h?dbname=d&password=p&port=9", "u:p @ h:9 / d"),
        ("postgresql://u@/d?host=a,b&port=1,2", "u @ a:1,b:2 / d"),
    ] {
        assert_eq!(summary(url), expected, "{url}");
    }
}

#[test]
fn a_bad_url_says_what_is_wrong_and_no_secret() {
    for (url, expected) in [
        ("mysql://u:hunter2@h/d", "postgresql://"),
        ("postgresql:///d", "no host"),
        ("postgresql://h/d", "no user"),
        ("postgresql://u@h,,i/d", "hosts is empty"),
        ("postgresql://u@h:0/d", "1 to 65535"),
        ("postgresql://u@h:65536/d", "1 to 65535"),
        ("postgresql://u@[::1/d", "`]`"),
        ("postgresql://u@[::1]x/d", "`]`"),
        ("postgresql://u@h/d?x", "`=`"),
        ("postgresql://u@h/d?sslcrl=x", "`sslcrl`"),
        ("postgresql://u@h/d?sslmode=allow", "`allow`"),
        ("postgresql://u@h/d?sslmode=hunter2", "sslmode"),
        ("postgresql://u@h/d?sslcert=x", "`sslkey`"),
        ("postgresql://u@h/d?channel_binding=x", "channel_binding"),
        ("postgresql://u@h/d?target_session_attrs=primary", "target_session_attrs"),
        ("postgresql://u@h/d?connect_timeout=x", "connect_timeout"),
        ("postgresql://u@a,b/d?port=1,2,3", "ports"),
        // A password that is not encoded.
        ("postgresql://u:hunter2%zz@h/d", "%25"),
        ("postgresql://u:hunter2%é@h/d", "%25"),
        ("postgresql://u:a@hunter2@h/d", "%40"),
        ("postgresql://u:hunter2/b@h/d", "%2F"),
        ("postgresql://u:1/hunter2@h/d", "%2F"),
    ] {
        let said = summary(url);
        assert!(said.contains(expected), "{url}: {said}");
        assert!(!said.contains("hunter2"), "{url}: {said}");
    }
}

#[test]
fn parameters_become_options() {
    let url = "postgresql://u@h/d?sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c.pem\
               &sslkey=/k.pem&channel_binding=require&connect_timeout=7&application_name=x%20y\
               &keepalives_idle=5&keepalives_interval=0&keepalives_count=2\
               &target_session_attrs=any";
    let options = Options::from_url(url).unwrap();
    let client = ClientCertificate { certificate: "/c.pem".into(), key: "/k.pem".into() };
    let tls = Tls {
        mode: SslMode::VerifyCa,
        roots: Some(Roots::File("/ca.pem".into())),
        client: Some(client),
        channel_binding: ChannelBinding::Require,
    };
    assert_eq!(options.tls, tls);
    assert_eq!(options.connect_timeout, Duration::from_secs(7));
    assert_eq!(options.application_name, "x y");
    let keepalive = options.keepalive.unwrap();
    assert_eq!((keepalive.idle, keepalive.probes), (Duration::from_secs(5), 2));

    let mode = |query: &str| {
        Options::from_url(&format!("postgresql://u@h/d?{query}")).map(|options| options.tls.mode)
    };
    assert_eq!(mode("").unwrap(), SslMode::Prefer);
    assert_eq!(mode("ssl=true").unwrap(), SslMode::Require);
    assert_eq!(mode("sslrootcert=system").unwrap(), SslMode::VerifyFull);
    assert_eq!(mode("keepalives=0").unwrap(), SslMode::Prefer);
    for wrong in [
        "sslmode=verify-full",
        "sslmode=require&sslrootcert=system",
        "sslmode=disable&channel_binding=require",
        "ssl=false",
        "keepalives_idle=32768",
        "keepalives_count=128",
    ] {
        assert!(mode(wrong).is_err(), "{wrong}");
    }
}
