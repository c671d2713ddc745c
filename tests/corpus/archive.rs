//! What a primary has archived, in the order in which servers ask for it: along the timelines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::header::Header;
use crate::lives::{Cluster, files};
use crate::machine::{Doing, Failure, Result};

/// Segments, each continuing the one before.
pub type Route = Vec<String>;

pub struct Archive<'a> {
    pub cluster: &'a Cluster,
    pub directory: PathBuf,
    /// In bytes.
    pub segment_size: u64,
    /// The first leads to the end of the newest timeline, the others to the ends of those that were left.
    pub routes: Vec<Route>,
}

impl<'a> Archive<'a> {
    pub fn of(cluster: &'a Cluster) -> Result<Self> {
        let directory = cluster.machine.archive();
        let mut positions: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        let mut segment_size = 0;
        for path in files(&directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.len() == 24 {
                let timeline = u32::from_str_radix(&name[..8], 16)?;
                positions.entry(name[8..].to_owned()).or_default().insert(timeline);
                segment_size = path.metadata()?.len();
            }
        }
        let newest = positions.values().flatten().max().copied().unwrap_or(0);
        let mut seen = BTreeSet::new();
        let mut routes = Vec::new();
        for last in (1..=newest).rev() {
            let mut route = Vec::new();
            let mut timeline = 0;
            for (position, timelines) in &positions {
                let Some(highest) = timelines.range(..=last).next_back() else { continue };
                // What is left of a timeline that others have left earlier.
                if *highest < timeline {
                    break;
                }
                timeline = *highest;
                route.push(format!("{timeline:08X}{position}"));
            }
            if route.iter().any(|name| seen.insert(name.clone())) {
                routes.push(route);
            }
        }
        let archive = Self { cluster, directory, segment_size, routes };
        archive.check_for_holes()?;
        Ok(archive)
    }

    fn check_for_holes(&self) -> Result<()> {
        for route in &self.routes {
            for pair in route.windows(2) {
                let start = |name: &String| -> Result<u64> {
                    let bytes = self.read(name)?;
                    let header = Header::of(&bytes);
                    Ok(header.ok_or_else(|| Failure::new(format!("{name} is empty")))?.lsn)
                };
                let (first, second) = (start(&pair[0])?, start(&pair[1])?);
                if second != first + self.segment_size {
                    return Err(Failure::new(format!(
                        "{}, which begins at {first:X}, is not followed by {}, which begins at {second:X}",
                        pair[0], pair[1]
                    )));
                }
            }
        }
        Ok(())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.path(name)).doing(name)
    }
}
