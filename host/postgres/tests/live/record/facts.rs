//! What the catalog knows, in the form that `src/fuzz/facts.rs` reads.

use crate::cluster::Session;

/// Types that the server did not bring along, and the columns of primary keys.
pub(super) struct Facts {
    types: Vec<Type>,
    /// Table and column.
    keys: Vec<(u32, String)>,
}

struct Type {
    oid: u32,
    shape: u8,
    other: u32,
    delimiter: u8,
    name: String,
}

impl Facts {
    pub(super) async fn ask(sql: &mut Session) -> Self {
        let types = sql
            .run(
                "select oid, case when typtype = 'd' then 1
                        when typoutput = 'array_out'::regproc then 2 else 0 end,
                    case when typtype = 'd' then typbasetype else typelem end,
                    ascii(typdelim), typname
                 from pg_type where typnamespace <> 'pg_catalog'::regnamespace order by oid",
            )
            .await;
        let keys = sql
            .run(
                "select i.indrelid::oid, a.attname from pg_index i
                 join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                 where i.indisprimary and i.indrelid >= 16384 order by 1, 2",
            )
            .await;
        Self {
            types: types
                .iter()
                .map(|row| Type {
                    oid: row[0].parse().unwrap(),
                    shape: row[1].parse().unwrap(),
                    other: row[2].parse().unwrap(),
                    delimiter: row[3].parse().unwrap(),
                    name: row[4].clone(),
                })
                .collect(),
            keys: keys.iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect(),
        }
    }

    /// Those that these bytes name, and what stands behind them.
    pub(super) fn encode(&self, bytes: &[u8]) -> Vec<u8> {
        let named = |oid: u32| bytes.windows(4).any(|four| four == oid.to_be_bytes());
        let mut needed: Vec<&Type> = self.types.iter().filter(|known| named(known.oid)).collect();
        let mut index = 0;
        while let Some(next) = needed.get(index) {
            let behind = self.types.iter().find(|known| next.shape > 0 && known.oid == next.other);
            if let Some(behind) = behind
                && needed.iter().all(|known| known.oid != behind.oid)
            {
                needed.push(behind);
            }
            index += 1;
        }
        let keys: Vec<_> = self.keys.iter().filter(|(table, _)| named(*table)).collect();
        let mut out = vec![u8::try_from(needed.len()).unwrap()];
        for Type { oid, shape, other, delimiter, name } in needed {
            out.extend(oid.to_be_bytes());
            out.push(*shape);
            out.extend(other.to_be_bytes());
            out.push(*delimiter);
            push_name(&mut out, name);
        }
        out.push(u8::try_from(keys.len()).unwrap());
        for (table, column) in keys {
            out.extend(table.to_be_bytes());
            push_name(&mut out, column);
        }
        out
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).unwrap());
    out.extend(name.as_bytes());
}
