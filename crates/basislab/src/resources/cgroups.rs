//! What the memory cgroups of this process leave it: containers, Slurm jobs and systemd slices set their limits there.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The least memory, in bytes, that any memory cgroup from this process's own up to the root of the hierarchy leaves it;
/// `None` where none of them has a limit.
pub(crate) fn memory_left() -> Option<f64> {
    let text = |path: &str| read_to_string(path).unwrap_or_default();
    least(&folders(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo")))
}

fn least(folders: &[PathBuf]) -> Option<f64> {
    folders.iter().filter_map(|folder| left_in(folder)).min_by(f64::total_cmp)
}

/// The folder of each memory cgroup that holds the process, its own first, then its parents: of version 2 and of
/// version 1, both of which a machine may have. `own` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
fn folders(own: &str, mounts: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (kind, usual) = match controllers {
            "" => ("cgroup2", "/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => ("cgroup", "/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let usual = (Path::new("/"), PathBuf::from(usual));
        for (root, mount) in mounts.lines().filter_map(|line| mounted(line, kind)).chain([usual]) {
            // A container may see a path that lies above what is mounted for it: then the mount itself is all it has.
            let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
            let below = if inside { below } else { Path::new("") };
            all.extend(below.ancestors().map(|part| mount.join(part)));
        }
    }
    all
}

/// `(root, mount point)` of a line of `mountinfo` that mounts a hierarchy of this kind with the memory controller.
fn mounted<'a>(line: &'a str, kind: &str) -> Option<(&'a Path, PathBuf)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let is_kind = system.next()? == kind;
    let has_memory = kind == "cgroup2" || system.nth(1)?.split(',').any(|option| option == "memory");
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    (is_kind && has_memory).then(|| (Path::new(root), PathBuf::from(point)))
}

/// What one cgroup leaves: its limit less what is in use, where file pages that the kernel gives back count as free.
fn left_in(folder: &Path) -> Option<f64> {
    let text = |name: &str| read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<f64>().ok();
    let of_version = |limit: &str, used: &str, cached: &str| {
        // Version 2 says "max" where there is no limit; version 1 has a number that no machine reaches.
        let (limit, used) = (number(limit)?, number(used)?);
        let stat = text("memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.trim().parse::<f64>().ok());
        Some((limit - used + cached.unwrap_or(0.0)).max(0.0))
    };
    of_version("memory.max", "memory.current", "inactive_file ")
        .or_else(|| of_version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;
    use std::fs;

    fn tell(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_smallest_limit_up_the_tree_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |part: &str| dir.path().join(part);
        let mount = |kind: &str, root: &str, part: &str, options: &str| {
            format!("30 20 0:26 {root} {} rw,relatime shared:9 - {kind} cgroup rw,{options}\n", at(part).display())
        };
        // Version 2: a job's limit above the step's own group, and a wider one at the top.
        tell(&at("two"), &[("memory.max", "900\n"), ("memory.current", "100\n"), ("memory.stat", "")]);
        let job = [("memory.max", "500\n"), ("memory.current", "300\n"), ("memory.stat", "anon 1\ninactive_file 50\n")];
        tell(&at("two/batch/job_7"), &job);
        tell(&at("two/batch/job_7/step_0"), &[("memory.max", "max\n"), ("memory.current", "10\n")]);
        let mounts = mount("cgroup2", "/", "two", "nsdelegate");
        let left = |own: &str, mounts: &str| {
            let ours: Vec<PathBuf> =
                folders(own, mounts).into_iter().filter(|folder| folder.starts_with(dir.path())).collect();
            least(&ours)
        };
        assert_eq!(left("0::/batch/job_7/step_0\n", &mounts), Some(250.0));
        assert_eq!(left("0::/batch\n", &mounts), Some(800.0));
        // What is mounted is a part of the hierarchy, or lies outside the process's own view of it.
        assert_eq!(left("0::/above/batch/job_7/step_0\n", &mount("cgroup2", "/above", "two", "")), Some(250.0));
        assert_eq!(left("0::/../batch/job_7\n", &mounts), Some(800.0));
        assert_eq!(left("0::/elsewhere\n", &mount("cgroup2", "/docker/abc", "two", "")), Some(800.0));
        // Version 1, beside other controllers.
        let limited = [
            ("memory.limit_in_bytes", "700\n"),
            ("memory.usage_in_bytes", "600\n"),
            ("memory.stat", "inactive_file 9\ntotal_inactive_file 11\n"),
        ];
        tell(&at("one/slurm"), &limited);
        tell(
            &at("one/slurm/step"),
            &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "5\n")],
        );
        let own = "8:pids:/x\n4:cpu,memory:/slurm/step\n0::/\n";
        let both = mount("cgroup", "/", "none", "pids") + &mount("cgroup", "/", "one", "cpu,memory");
        assert_eq!(left(own, &both), Some(111.0));
        assert_eq!(left(own, &(both + &mounts)), Some(111.0));
        assert_eq!(left("8:pids:/x\n", &mounts), None);
    }
}
