//! Whether locks of files hold between the nodes that share a file system.

use std::path::{Path, PathBuf};

/// Whether a lock of a file in `dir` (which need not exist yet) keeps processes of other nodes out too, as far as the mount says.
/// What is not known to lock on one node only counts as sound, and so does every file system that only one node has. Always so on
/// systems other than Linux.
///
/// The locks are those of `flock`. NFS makes them locks of byte ranges on the server, unless it is mounted with `nolock` or
/// `local_lock`. Lustre has them with the option `flock` (the default since 2.13), BeeGFS where its configuration sets
/// `tuneUseGlobalFileLocks`, CIFS without `nobrl`, OCFS2 and GFS2 without `localflocks`. CephFS, GPFS, GlusterFS and JuiceFS need
/// nothing. Those of 9p, virtiofs, sshfs and of mounted object stores are of one node, or of none.
///
/// # Errors
/// Why they do not hold, naming the mount point, the file system and the option.
pub fn locks_between_nodes(dir: &Path) -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let Some(dir) = existing(dir) else { return Ok(()) };
    // A system that hides its mounts says nothing against its locks.
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    judge(&mounts, &dir, &|path| std::fs::read_to_string(path).ok())
}

/// The path without links, or that of the nearest folder above it that exists.
fn existing(dir: &Path) -> Option<PathBuf> {
    std::path::absolute(dir).ok()?.ancestors().find_map(|folder| folder.canonicalize().ok())
}

/// A line of `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    point: PathBuf,
    kind: &'a str,
    /// Of the mount, then of the file system.
    options: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    /// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any number of fields before
    /// the lone hyphen.
    fn parse(line: &'a str) -> Option<Self> {
        let (first, second) = line.split_once(" - ")?;
        let (first, second): (Vec<&str>, Vec<&str>) = (first.split(' ').collect(), second.split(' ').collect());
        let options = [first.get(5)?, second.last()?].into_iter().flat_map(|options| options.split(',')).collect();
        Some(Self { point: unescaped(first.get(4)?), kind: second.first()?, options })
    }

    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let octal = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |all, digit| digit.is_ascii_digit().then(|| 8 * all + u32::from(digit - b'0')))
    };
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        let code = more.get(..3).filter(|_| *first == b'\\').and_then(octal).and_then(|code| u8::try_from(code).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[3..] } else { more };
    }
    #[cfg(unix)]
    return <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into();
    #[cfg(not(unix))]
    return String::from_utf8_lossy(&bytes).into_owned().into();
}

/// [`locks_between_nodes`] by the text of `mountinfo`, for a path without links. `read` reads a file that an option names.
fn judge(mounts: &str, dir: &Path, read: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    let holds = |mount: &Mount<'_>| dir.starts_with(&mount.point);
    let mounts = mounts.lines().filter_map(Mount::parse).filter(holds);
    // Of several at one point, the last is on top; `max_by_key` takes it.
    let Some(mount) = mounts.max_by_key(|mount| mount.point.components().count()) else { return Ok(()) };
    let option = |names: &[&str]| names.iter().find(|name| mount.has(name)).map(|name| format!("with {name}"));
    let local = match mount.kind {
        "nfs" | "nfs3" | "nfs4" => option(&["nolock", "local_lock=all", "local_lock=flock"]),
        "lustre" if mount.has("flock") => None,
        "lustre" => option(&["localflock", "noflock"]).or(Some("without flock".to_owned())),
        "beegfs" => {
            let file = mount.value("cfgFile").unwrap_or("/etc/beegfs/beegfs-client.conf");
            let is_global = read(file).is_some_and(|text| sets(&text, "tuneUseGlobalFileLocks"));
            (!is_global).then(|| format!("without tuneUseGlobalFileLocks = true in {file}"))
        }
        "cifs" | "smb3" => option(&["nobrl"]),
        "ocfs2" | "gfs2" => option(&["localflocks"]),
        "pvfs2" => option(&["local_lock"]),
        "afs" => option(&["flock=local"]),
        "9p" | "virtiofs" | "fuse.sshfs" | "fuse.rclone" | "fuse.s3fs" | "fuse.gcsfuse" | "fuse.goofys"
        | "fuse.mountpoint-s3" => Some("with any option".to_owned()),
        _ => None,
    };
    local.map_or(Ok(()), |how| {
        let (point, kind) = (mount.point.display(), mount.kind);
        Err(format!("{point} is mounted as {kind} {how}, and locks of files are not shared between nodes there"))
    })
}

/// Whether a configuration of lines `KEY = VALUE` switches a key on.
fn sets(text: &str, key: &str) -> bool {
    let mut values = text.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.trim() == key);
    values.next_back().is_some_and(|(_, value)| ["true", "1", "yes", "on"].contains(&value.trim()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::{Mount, judge, sets};
    use std::path::Path;

    const ROOT: &str = "23 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro\n";

    /// What is said of `/data/runs` where the file system there has this type and these options.
    fn said(kind: &str, options: &str) -> Result<(), String> {
        let mounts = format!("{ROOT}512 23 0:57 / /data rw,relatime shared:290 - {kind} server:/export {options}\n");
        judge(&mounts, Path::new("/data/runs"), &|_| None)
    }

    #[test]
    fn locks_hold_where_the_server_has_them() {
        let nfs = "rw,vers=3,rsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.0.0.2,mountvers=3,\
                   mountport=20048,mountproto=udp,local_lock=none,addr=10.0.0.2";
        let nfs4 = "rw,vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp,sec=sys,clientaddr=10.0.0.7,local_lock=none,addr=10.0.0.2";
        let well = [
            ("nfs", nfs),
            ("nfs", &nfs.replace("local_lock=none", "local_lock=posix")),
            ("nfs4", nfs4),
            ("lustre", "rw,checksum,flock,user_xattr,lruresize,lazystatfs,encrypt"),
            ("cifs", "rw,vers=3.1.1,cache=strict,username=me,uid=0,brl"),
            ("ocfs2", "rw,_netdev,heartbeat=local,nointr,coherency=full"),
            ("ceph", "rw,name=admin,secret=<hidden>,acl"),
            ("gpfs", "rw"),
            ("fuse.glusterfs", "rw,user_id=0,group_id=0,allow_other,max_read=131072"),
            ("afs", "rw,dyn"),
            ("xfs", "rw,attr2,inode64,noquota"),
        ];
        for (kind, options) in well {
            assert_eq!(said(kind, options), Ok(()), "{kind} {options}");
        }
    }

    #[test]
    fn locks_of_one_node_are_named_with_mount_type_and_option() {
        let cases = [
            ("nfs", "rw,vers=3,nolock,proto=tcp,local_lock=all,addr=10.0.0.2", "nfs with nolock,"),
            ("nfs", "rw,vers=3,proto=tcp,local_lock=all,addr=10.0.0.2", "nfs with local_lock=all,"),
            ("nfs4", "rw,vers=4.1,local_lock=flock,addr=10.0.0.2", "nfs4 with local_lock=flock,"),
            ("lustre", "rw,checksum,localflock,user_xattr", "lustre with localflock,"),
            ("lustre", "rw,checksum,noflock,user_xattr", "lustre with noflock,"),
            ("lustre", "rw,user_xattr,lazystatfs", "lustre without flock,"),
            ("beegfs", "rw,cfgFile=/etc/b.conf", "beegfs without tuneUseGlobalFileLocks = true in /etc/b.conf,"),
            ("cifs", "rw,vers=3.1.1,username=me,nobrl", "cifs with nobrl,"),
            ("ocfs2", "rw,localflocks", "ocfs2 with localflocks,"),
            ("afs", "rw,flock=local", "afs with flock=local,"),
            ("9p", "rw,sync,dirsync,access=client,trans=virtio", "9p with any option,"),
            ("virtiofs", "rw", "virtiofs with any option,"),
            ("fuse.sshfs", "rw,user_id=1000,group_id=1000", "fuse.sshfs with any option,"),
        ];
        for (kind, options, expected) in cases {
            let error = said(kind, options).unwrap_err();
            assert!(error.starts_with(&format!("/data is mounted as {expected}")), "{kind} {options}: {error}");
        }
    }

    #[test]
    fn the_configuration_of_beegfs_is_read() {
        let mounts = format!("{ROOT}77 23 0:61 / /mnt/b rw - beegfs beegfs_nodev rw,relatime,cfgFile=/etc/b.conf\n");
        let judged = |text: &str| {
            judge(&mounts, Path::new("/mnt/b/x"), &|path| (path == "/etc/b.conf").then(|| text.to_owned()))
        };
        assert_eq!(judged("logLevel = 3\ntuneUseGlobalFileLocks  = true\n"), Ok(()));
        assert!(judged("tuneUseGlobalFileLocks = false\n").is_err());
        assert!(judged("# tuneUseGlobalFileLocks = true\n").is_err(), "a comment sets nothing");
        assert!(sets("a=1", "a") && !sets("ab=1", "a"));
    }

    #[test]
    fn the_mount_that_holds_a_folder_is_the_deepest_and_the_last() {
        let nfs = |point: &str, options: &str| format!("90 23 0:70 / {point} rw - nfs4 s:/x rw,{options}\n");
        let judged = |mounts: &str, dir: &str| judge(&format!("{ROOT}{mounts}"), Path::new(dir), &|_| None).is_ok();
        let (sound, local) = ("local_lock=none", "local_lock=all");
        let both = nfs("/a", local) + &nfs("/a/b", sound);
        assert!(!judged(&both, "/a") && !judged(&both, "/a/c") && judged(&both, "/a/b") && judged(&both, "/a/b/c"));
        assert!(judged(&both, "/ab") && judged(&both, "/"), "a name that begins alike is another folder");
        // An automounter's point, and what is mounted on it.
        let auto = "80 23 0:50 / /home rw - autofs systemd-1 rw,fd=30,pgrp=1,timeout=0,direct\n";
        assert!(!judged(&format!("{auto}{}", nfs("/home", local)), "/home/me"));
        assert!(judged(&(nfs("/a", local) + &nfs("/a", sound)), "/a/x"), "the last at a point is on top");
        assert!(!judged(&(nfs("/a", sound) + &nfs("/a", local)), "/a/x"), "the last at a point is on top");
        // Deeper first.
        assert!(judged(&(nfs("/a/b", sound) + &nfs("/a", local)), "/a/b/c"));
    }

    #[test]
    fn lines_are_read_with_their_escapes_and_any_number_of_fields() {
        let line = r"61 23 0:44 /sub /my\040data/a\134b rw,noexec shared:3 master:2 propagate_from:1 - nfs nas:/my\040data rw,nolock";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.point.as_path(), mount.kind), (Path::new(r"/my data/a\b"), "nfs"));
        assert!(mount.has("noexec") && mount.has("nolock"));
        assert!(judge(line, Path::new(r"/my data/a\b/c"), &|_| None).is_err());
        let bare = "61 23 0:44 / /mnt rw - tmpfs tmpfs rw";
        assert_eq!(Mount::parse(bare).unwrap().kind, "tmpfs");
        for broken in ["", "61 23", "- nfs", r"61 23 0:44 / /a\99 - nfs", "61 23 0:44 / /a\\777\\ rw - nfs x rw", " - "]
        {
            assert_eq!(judge(broken, Path::new("/a"), &|_| None), Ok(()), "{broken}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_judged_without_a_panic_whether_or_not_the_folder_exists() {
        let here = super::locks_between_nodes(Path::new("."));
        assert_eq!(super::locks_between_nodes(Path::new("not/there/yet")), here);
    }
}
