//! What `pg_current_snapshot()` says.

use model::backfill::Snapshot;

/// Reads `xmin:xmax:xip,xip`.
///
/// On a standby that text does not name the transactions in progress: there they stand among the
/// subtransactions of a snapshot, which it leaves out. So nothing from `xmin` on counts as shown:
/// the other way round a change would pass for one that the page has.
pub(super) fn read(text: &str, standby: bool) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let xmin: u64 = parts.next()?.parse().ok()?;
    let xmax: u64 = parts.next()?.parse().ok()?;
    let list = parts.next()?;
    let ids = list.split(',').filter(|id| !id.is_empty());
    let mut in_progress = ids.map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
    if xmin > xmax {
        return None;
    }
    if standby {
        return Some(Snapshot { xmin, xmax: xmin, in_progress: Vec::new() });
    }
    in_progress.sort_unstable();
    Some(Snapshot { xmin, xmax, in_progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b176_a_snapshot_is_read() {
        let snapshot = |xmin, xmax, in_progress: &[u64]| {
            Some(Snapshot { xmin, xmax, in_progress: in_progress.to_vec() })
        };
        assert_eq!(read("10:20:10,14,15", false), snapshot(10, 20, &[10, 14, 15]));
        assert_eq!(read("795:795:", false), snapshot(795, 795, &[]));
        let late = "18446744073709551600:18446744073709551615:";
        assert_eq!(read(late, false), snapshot(u64::MAX - 15, u64::MAX, &[]));
        for bad in ["", "1", "1:2", "2:1:", "a:b:", "1:2:x", "-1:2:", "1:99999999999999999999:"] {
            assert_eq!(read(bad, false), None, "{bad}");
        }
    }

    #[test]
    fn b178_of_a_standby_only_what_is_certain_counts_as_shown() {
        let snapshot = read("10:20:", true).unwrap();
        let shown: Vec<u32> = (8..22).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [8, 9]);
    }
}
