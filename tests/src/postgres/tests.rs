use super::*;

#[tokio::test]
async fn a_cluster_with_tls_and_a_password_takes_nothing_less() {
    let setup = Setup { tls: true, password: Some("secret"), ..Setup::default() };
    let mut cluster = Cluster::start_as(setup).await.unwrap();
    let client = cluster.client("postgres").await.unwrap();
    let row = client.query_one("show ssl", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "on");
    assert!(cluster.url("d").contains(":secret@"));
    let refused = connect(&cluster.url("postgres")).await.err().map(|error| format!("{error:#}"));
    let refused = refused.expect("no TLS, no session");
    assert!(refused.contains("no encryption"), "{refused}");
    let certificates = cluster.certificates().unwrap();
    for file in [certificates.authority(), certificates.client(), certificates.client_key()] {
        assert!(std::fs::read_to_string(file).unwrap().starts_with("-----BEGIN "));
    }
    cluster.stop().await.unwrap();
}
