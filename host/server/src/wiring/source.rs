//! Databases as `postgres` is told of them.

use config::spec::{self, CreatePublication, Database, Retention};
use sinks::Batching;

/// How the database is reached, and its primary.
pub(crate) fn source(database: &Database) -> postgres::Options {
    let mut options = server(database);
    options.primary = database.primary.as_ref().map(|primary| {
        let spec::Server { hostname, port, more_hosts, database: name, username, password, tls } =
            primary.clone();
        Box::new(server(&Database {
            hostname,
            port,
            more_hosts,
            database: name,
            username,
            password,
            tls,
            ..database.clone()
        }))
    });
    options
}

fn server(database: &Database) -> postgres::Options {
    let mut options = postgres::Options::new(
        &database.hostname,
        &database.username,
        &database.database,
        &database.slot.name,
        &database.publication.name,
    );
    options.port = database.port;
    reached(&mut options, &database.more_hosts, &database.password, &database.tls);
    options.slot_create = database.slot.create;
    options.slot_failover = database.slot.failover;
    options.origin = match database.slot.origin {
        spec::Origin::Any => postgres::Origin::Any,
        spec::Origin::None => postgres::Origin::None,
    };
    options.heartbeat = database.heartbeat;
    options.publication_create = database.publication.create.as_ref().map(|create| match create {
        CreatePublication::AllTables { via_partition_root } => {
            postgres::Create::AllTables { via_partition_root: *via_partition_root }
        }
        CreatePublication::Sql(sql) => postgres::Create::Sql(sql.clone()),
    });
    options
}

/// The table of a change retention.
pub(crate) fn change_table(retention: &Retention, batching: Batching) -> postgres::ChangeTable {
    let Retention { server, schema, table, create, .. } = retention;
    let mut options =
        postgres::Options::new(&server.hostname, &server.username, &server.database, "", "");
    options.port = server.port;
    reached(&mut options, &server.more_hosts, &server.password, &server.tls);
    let name = postgres::TableName { schema: schema.clone(), table: table.clone() };
    let Batching { messages_max, linger } = batching;
    postgres::ChangeTable::new(options, name, messages_max, linger).creating(*create)
}

fn reached(
    options: &mut postgres::Options,
    more_hosts: &[(String, u16)],
    password: &options::Secret,
    tls: &spec::Tls,
) {
    let more = more_hosts.iter();
    let more = more.map(|(host, port)| postgres::Address { host: host.clone(), port: *port });
    options.more_hosts = more.collect();
    let password = password.reveal();
    options.password = (!password.is_empty()).then(|| postgres::Password::new(password));
    options.tls = self::tls(tls);
}

fn tls(tls: &spec::Tls) -> postgres::Tls {
    postgres::Tls {
        mode: match tls.mode {
            spec::SslMode::Disable => postgres::SslMode::Disable,
            spec::SslMode::Prefer => postgres::SslMode::Prefer,
            spec::SslMode::Require => postgres::SslMode::Require,
            spec::SslMode::VerifyCa => postgres::SslMode::VerifyCa,
            spec::SslMode::VerifyFull => postgres::SslMode::VerifyFull,
        },
        roots: tls.roots.as_ref().map(|roots| match roots {
            spec::Roots::System => postgres::Roots::System,
            spec::Roots::File(path) => postgres::Roots::File(path.clone()),
        }),
        client: tls.client.as_ref().map(|client| postgres::ClientCertificate {
            certificate: client.certificate.clone(),
            key: client.key.clone(),
        }),
        channel_binding: match tls.channel_binding {
            spec::ChannelBinding::Disable => postgres::ChannelBinding::Disable,
            spec::ChannelBinding::Prefer => postgres::ChannelBinding::Prefer,
            spec::ChannelBinding::Require => postgres::ChannelBinding::Require,
        },
    }
}
