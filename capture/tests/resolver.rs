//! The resolver on programs that people run: pinned versions, fetched from the registries that this machine is set up for.
//!
//! They are kept in `$AGENTSIGHT_TEST_CACHE`, else among Cargo's files for tests; about 190 MB are downloaded once. Without
//! them and without a network these tests fail: what was not tried is not known to work.

use agentsight_capture::resolver::{Binary, Library, cookie::op, cookie::op_of, resolve};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment, ObjectSymbol};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cache() -> PathBuf {
    let chosen = std::env::var_os("AGENTSIGHT_TEST_CACHE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    chosen.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("registries"))
}

/// The file at `folder/path` of the cache; if it is not there, it is what `download` puts at `path` of a folder that it is given.
fn fetched(folder: &str, path: &str, download: impl FnOnce(&Path)) -> File {
    let kept = cache().join(folder).join(path);
    if !kept.is_file() {
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        let new = tempfile::tempdir_in(cache()).unwrap();
        download(new.path());
        // Another test may have been faster, with the same file.
        std::fs::rename(new.path().join(path), &kept).unwrap();
    }
    File::open(kept).unwrap()
}

/// Runs a program that has to succeed.
fn run(program: &str, arguments: &[&str], folder: &Path) {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let failed = match output {
        Ok(output) if output.status.success() => return,
        Ok(output) => format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)),
        Err(error) => error.to_string(),
    };
    panic!(
        "`{program} {}` failed: {failed}\nThis test needs a program from a registry: a network, or \
         $AGENTSIGHT_TEST_CACHE with what an earlier run has fetched.",
        arguments.join(" ")
    );
}

/// The only file in a folder with an extension.
fn only(folder: &Path, extension: &str) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == extension)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].to_string_lossy().into_owned()
}

/// A file of an npm package.
fn npm(package: &str, version: &str, path: &str) -> File {
    let folder = format!("{}_{version}", package.replace(['@', '/'], "_"));
    fetched(&folder, path, |folder| {
        run("npm", &["pack", "--loglevel=error", &format!("{package}@{version}")], folder);
        run("tar", &["-xzf", &only(folder, "tgz"), path], folder);
    })
}

/// A file of a Python wheel.
fn wheel(package: &str, version: &str, machine: &str, path: &str) -> File {
    fetched(&format!("{package}-{machine}"), path, |folder| {
        // Two names of one platform: wheels have one or both.
        let platforms = ["manylinux2014", "manylinux_2_17"].map(|name| format!("--platform={name}_{machine}"));
        let [one, other] = &platforms;
        let wanted = format!("{package}=={version}");
        run("pip", &["download", "--quiet", "--no-deps", "--only-binary=:all:", one, other, &wanted], folder);
        run("python3", &["-m", "zipfile", "-e", &only(folder, "whl"), "."], folder);
    })
}

/// The sites of the one stack of a binary, as (offset, name).
fn sites(binary: &Binary, library: Library) -> Vec<(u64, &str)> {
    let [only] = sites_of(binary, [library]);
    only
}

/// Sites of each of several libraries, which are all that the binary has.
fn sites_of<const N: usize>(binary: &Binary, libraries: [Library; N]) -> [Vec<(u64, &str)>; N] {
    let found: Vec<_> = binary.stacks.iter().map(|stack| stack.library).collect();
    assert!(found.len() == N && libraries.iter().all(|library| found.contains(library)), "{binary:#?}");
    libraries.map(|library| {
        let of_it = binary.stacks.iter().filter(|stack| stack.library == library);
        of_it.flat_map(|stack| &stack.sites).map(|site| (site.offset, site.name.as_ref())).collect()
    })
}

/// Offsets: those that the Python prototype of the method found (numpy and capstone; see the design notes).
#[test]
fn bun_on_x86_64_has_boringssl() {
    let binary = resolve(&npm("@oven/bun-linux-x64", "1.3.5", "package/bin/bun")).unwrap();
    assert_eq!(sites(&binary, Library::Boringssl), [(0x5ec8310, "SSL_read"), (0x5ec9020, "SSL_write")]);
}

/// Offsets: those that the Python prototype of the method found.
#[test]
fn bun_on_arm64_has_boringssl() {
    let binary = resolve(&npm("@oven/bun-linux-aarch64", "1.4.5", "package/bin/bun")).unwrap();
    assert_eq!(sites(&binary, Library::Boringssl), [(0x2125500, "SSL_read"), (0x21a07c0, "SSL_write")]);
}

/// A BoringSSL for Rust that writes past `SSL_write`. Offsets: the reports as `objdump` shows them, all in the function that
/// `SSL_seal_app_data` ends in.
#[test]
fn wreq_seals_what_it_writes() {
    let binary = resolve(&wheel("wreq", "0.13.0", "x86_64", "wreq/wreq.abi3.so")).unwrap();
    let expected = [(0x847e00, "SSL_seal_app_data"), (0x85c5c0, "SSL_read"), (0x85c950, "SSL_write")];
    assert_eq!(sites(&binary, Library::Boringssl), expected);
}

/// Offsets: those that the Python prototype found, which looks for frame pointers.
#[test]
fn deno_has_aws_lc_in_small_code() {
    let binary = resolve(&npm("@deno/linux-x64-glibc", "2.9.6", "package/deno")).unwrap();
    assert_eq!(
        sites(&binary, Library::AwsLc),
        [
            (0x58402b9, "EVP_AEAD_CTX_seal"),
            (0x58403bd, "EVP_AEAD_CTX_seal_scatter"),
            (0x58404cc, "EVP_AEAD_CTX_open"),
            (0x584061e, "EVP_AEAD_CTX_open_gather"),
        ]
    );
}

/// Offsets: the reports that the Python prototype found, by function as `readelf --debug-dump=frames` has them.
#[test]
fn uv_on_x86_64_has_aws_lc() {
    let binary = resolve(&wheel("uv", "0.13.9", "x86_64", "uv-0.13.9.data/scripts/uv")).unwrap();
    assert_eq!(
        sites(&binary, Library::AwsLc),
        [
            (0x927230, "EVP_AEAD_CTX_open"),
            (0x931e10, "EVP_AEAD_CTX_seal"),
            (0x217fed0, "EVP_AEAD_CTX_seal_scatter"),
            (0x2180010, "EVP_AEAD_CTX_open_gather"),
        ]
    );
}

/// Offsets: as on x86-64.
#[test]
fn uv_on_arm64_has_aws_lc() {
    let binary = resolve(&wheel("uv", "0.13.9", "aarch64", "uv-0.13.9.data/scripts/uv")).unwrap();
    assert_eq!(
        sites(&binary, Library::AwsLc),
        [
            (0x1a73100, "EVP_AEAD_CTX_seal"),
            (0x1a73260, "EVP_AEAD_CTX_seal_scatter"),
            (0x1a733d0, "EVP_AEAD_CTX_open_gather"),
            (0x1a734b0, "EVP_AEAD_CTX_open"),
        ]
    );
}

const RING: [&str; 4] = ["aes_gcm_seal", "aes_gcm_open", "chacha20_poly1305_seal", "chacha20_poly1305_open"];

fn older_uv(version: &str, machine: &str) -> Binary {
    resolve(&wheel("uv", version, machine, &format!("uv-{version}.data/scripts/uv"))).unwrap()
}

/// Offsets of ring, in the order of [`RING`].
fn in_order(sites: &[(u64, &str)]) -> Vec<u64> {
    assert_eq!(sites.len(), RING.len(), "{sites:?}");
    let of = |name| sites.iter().find(|(_, of)| *of == name).unwrap_or_else(|| panic!("no {name}: {sites:?}")).0;
    RING.map(of).to_vec()
}

/// Offsets: those that a script in Python found, which reads the relocations, and on arm64, where there are none, the data.
#[test]
fn older_uv_has_ring() {
    let ring = |version, machine| in_order(&sites(&older_uv(version, machine), Library::Ring));
    assert_eq!(ring("0.4.30", "x86_64"), [0x723d30, 0x724490, 0x7287b0, 0x728af0]);
    assert_eq!(ring("0.4.30", "aarch64"), [0x3e4bc8, 0x3e4ff4, 0x3e58b4, 0x3e5960]);
}

/// Its tables of ring are longer. Its libgit2 has an OpenSSL that never says its version; offsets: of the functions that load the
/// addresses of these names.
#[test]
fn uv_with_libgit2_has_ring_and_openssl() {
    let binary = older_uv("0.1.10", "x86_64");
    let [ring, openssl] = sites_of(&binary, [Library::Ring, Library::Openssl]);
    assert_eq!(in_order(&ring), [0xb25500, 0xb258e0, 0xb26ab0, 0xb26dd0]);
    assert_eq!(openssl, [(0xcbe8b0, "ssl_read_internal"), (0xcbeab0, "ssl_write_internal")]);
}

/// Sites of a Go program: offsets of entries by operation, then of returns.
fn go_sites(binary: &Binary) -> ([u64; 3], Vec<u64>, Vec<u64>) {
    sites(binary, Library::Go);
    let of = |op| binary.sites().filter(|site| op_of(site.cookie) == op).map(|site| site.offset).collect::<Vec<_>>();
    let entry = |op| match of(op)[..] {
        [only] => only,
        ref found => panic!("{found:x?}"),
    };
    let entries = [entry(op::GO_READ), entry(op::GO_WRITE), entry(op::GO_CLOSE)];
    (entries, of(op::GO_READ_RETURN), of(op::GO_WRITE_RETURN))
}

/// Go 1.26, whose table does not say where the code starts. Functions: as Go's own `debug/gosym` finds them (each entry is that
/// of the function and 10 or 15 bytes, behind the look at the stack); returns: by `llvm-objdump`.
#[test]
fn esbuild_has_go_tls() {
    let binary = resolve(&npm("@esbuild/linux-x64", "0.28.2", "package/bin/esbuild")).unwrap();
    let read = vec![0x208d01, 0x208d28, 0x208dca, 0x208f19, 0x208f48, 0x208f89, 0x208fa3];
    let write = vec![0x207966, 0x2079c3, 0x207a19, 0x207a56, 0x207a85, 0x207bde, 0x207df9, 0x207ec1];
    assert_eq!(go_sites(&binary), ([0x208c20 + 10, 0x207720 + 15, 0x209020 + 10], read, write));
}

/// Known as for x86-64; the look at the stack is three or four instructions.
#[test]
fn esbuild_on_arm64_has_go_tls() {
    let binary = resolve(&npm("@esbuild/linux-arm64", "0.28.2", "package/bin/esbuild")).unwrap();
    let read = vec![0x1ccea8, 0x1ccecc, 0x1ccf4c, 0x1cd058, 0x1cd084, 0x1cd0b8, 0x1cd0d4];
    let write = vec![0x1cbc08, 0x1cbc58, 0x1cbc98, 0x1cbcc4, 0x1cbce8, 0x1cbe04, 0x1cbfc4, 0x1cc07c];
    assert_eq!(go_sites(&binary), ([0x1ccdb0 + 12, 0x1cba00 + 16, 0x1cd180 + 12], read, write));
}

/// Go 1.20, whose table says where the code starts. Known as for Go 1.26.
#[test]
fn an_older_esbuild_has_go_tls() {
    let binary = resolve(&npm("@esbuild/linux-x64", "0.18.20", "package/bin/esbuild")).unwrap();
    let read = vec![0x1e47c4, 0x1e47f1, 0x1e4872, 0x1e49bd, 0x1e49f0, 0x1e4a6d, 0x1e4a8b];
    let write = vec![0x1e35bb, 0x1e3763, 0x1e37d3, 0x1e3843, 0x1e38a6, 0x1e38f6, 0x1e3932, 0x1e395c];
    assert_eq!(go_sites(&binary), ([0x1e46c0 + 10, 0x1e31e0 + 15, 0x1e4b20 + 10], read, write));
}

/// A library with crypto/tls and utls, a copy that most of its connections are of. Functions: as its symbols say; returns: as
/// `objdump` counts them.
#[test]
fn a_copy_of_go_tls_is_found_beside_it() {
    let path = "tls_client/dependencies/tls-client-linux-ubuntu-amd64.so";
    let binary = resolve(&wheel("tls_client", "2.0.0", "x86_64", path)).unwrap();
    let of = |op| binary.sites().filter(|site| op_of(site.cookie) == op).map(|site| site.offset).collect::<Vec<_>>();
    assert_eq!(of(op::GO_READ), [0x344fca, 0x3bea6a]);
    assert_eq!(of(op::GO_WRITE), [0x343a8f, 0x3bd52f]);
    assert_eq!(of(op::GO_CLOSE), [0x3453ea, 0x3bee8a]);
    assert_eq!((of(op::UTLS_READ), of(op::UTLS_WRITE)), (vec![0x3f9a2a], vec![0x3f788f]));
    assert_eq!((of(op::GO_READ_RETURN).len(), of(op::GO_WRITE_RETURN).len()), (7 + 7 + 7, 8 + 8 + 9));
}

/// Go 1.17: the table is of an older layout.
#[test]
fn a_go_program_that_is_too_old_says_so() {
    let binary = resolve(&npm("esbuild-linux-64", "0.14.2", "package/bin/esbuild")).unwrap();
    assert_eq!(sites(&binary, Library::Go), []);
    assert!(binary.stacks[0].why[0].contains("Go 1.16 or 1.17 is not supported"), "{:?}", binary.stacks[0].why);
}

/// A program that lost its sections has the same sites: the table is found by its first bytes, the code through the runtime.
#[test]
fn a_go_program_without_sections_has_the_same_sites() {
    use std::os::unix::fs::FileExt;
    let package = [("0.28.2", "package/bin/esbuild"), ("0.18.20", "package/bin/esbuild")];
    for (version, path) in package {
        let mut original = npm("@esbuild/linux-x64", version, path);
        let expected: Vec<_> = resolve(&original).unwrap().sites().cloned().collect();
        let mut bare = tempfile::tempfile().unwrap();
        std::io::Seek::rewind(&mut original).unwrap();
        std::io::copy(&mut original, &mut bare).unwrap();
        // Offset of the table of sections; its entries' size, their number, and the index of the names'.
        bare.write_all_at(&[0; 8], 0x28).unwrap();
        bare.write_all_at(&[0; 6], 0x3a).unwrap();
        let found: Vec<_> = resolve(&bare).unwrap().sites().cloned().collect();
        assert_eq!(found, expected, "{version}");
    }
}

/// Debian's: the exported functions begin with an instruction that is dear to probe, the internal one below does not.
#[cfg(target_arch = "x86_64")]
#[test]
fn openssl_is_probed_below_both_functions() {
    let file = installed("libssl.so.3");
    let data = std::fs::read(&file).unwrap();
    let elf = ElfFile64::<object::Endianness>::parse(&*data).unwrap();
    let binary = resolve(&File::open(&file).unwrap()).unwrap();
    sites(&binary, Library::Openssl);
    for (op, name, name_ex) in [(op::WRITE, "SSL_write", "SSL_write_ex"), (op::READ, "SSL_read", "SSL_read_ex")] {
        let found: Vec<_> = binary.sites().filter(|site| op_of(site.cookie) == op).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let calls = |name| {
            let (address, code) = function(&elf, name);
            let decoder = iced_x86::Decoder::with_ip(64, code, address, 0);
            let call = |step: &iced_x86::Instruction| step.is_call_near() && !step.is_call_near_indirect();
            decoder.into_iter().filter(call).map(|step| step.near_branch_target()).collect::<Vec<_>>()
        };
        let site = address(&elf, found[0].offset);
        // Behind `endbr64`, if there is one.
        let called = |name| calls(name).iter().any(|target| site == *target || site == *target + 4);
        assert!(called(name) && called(name_ex), "{site:#x} is not called by both {name} and {name_ex}");
    }
}

fn installed(name: &str) -> PathBuf {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file()).unwrap_or_else(|| panic!("this test needs {name}: scripts/setup installs it"))
}

/// Address and code of an exported function.
fn function<'data>(elf: &ElfFile64<'data>, name: &str) -> (u64, &'data [u8]) {
    let symbol = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
    let code = elf.segments().find_map(|segment| segment.data_range(symbol.address(), symbol.size()).ok().flatten());
    (symbol.address(), code.unwrap())
}

fn address(elf: &ElfFile64<'_>, offset: u64) -> u64 {
    let within = |(start, size): (u64, u64)| (start..start + size).contains(&offset);
    let segment = elf.segments().find(|segment| within(segment.file_range())).unwrap();
    segment.address() + (offset - segment.file_range().0)
}

/// A shared library with functions of these names, and nothing in them.
fn library(soname: &str, names: &[&str]) -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    let functions: Vec<_> =
        names.iter().map(|name| format!("long {name}(void) {{ return sizeof \"{name}\"; }}\n")).collect();
    std::fs::write(folder.path().join("library.c"), functions.concat()).unwrap();
    let soname = format!("-Wl,-soname,{soname}");
    run("cc", &["-shared", "-fPIC", "-O1", &soname, "library.c", "-o", "library.so"], folder.path());
    let file = File::open(folder.path().join("library.so")).unwrap();
    (folder, file)
}

fn ops(binary: &Binary) -> Vec<(&str, u64)> {
    let mut ops: Vec<_> = binary.sites().map(|site| (site.name.as_ref(), op_of(site.cookie))).collect();
    ops.sort_unstable();
    ops
}

#[test]
fn gnutls_is_known_by_name() {
    let names = ["gnutls_record_send", "gnutls_record_send2", "gnutls_record_recv", "gnutls_record_recv_seq"];
    let (_folder, file) = library("libgnutls.so.30", &[&names[..], &["gnutls_deinit", "gnutls_init"]].concat());
    let binary = resolve(&file).unwrap();
    assert_eq!(binary.stacks[0].library, Library::Gnutls);
    let (read, write) = (op::READ, op::WRITE);
    let free = ("gnutls_deinit", op::FREE);
    assert_eq!(ops(&binary), [free, (names[2], read), (names[3], read), (names[0], write), (names[1], write)]);
}

#[test]
fn nss_is_known_by_name_in_its_own_library_only() {
    let names = ["PR_Close", "PR_Read", "PR_Recv", "PR_Send", "PR_Write"];
    let ops_of_names = [op::FREE, op::NSS_READ, op::NSS_READ, op::NSS_WRITE, op::NSS_WRITE];
    let (_folder, file) = library("libnspr4.so", &names);
    let binary = resolve(&file).unwrap();
    assert_eq!(binary.stacks[0].library, Library::Nss);
    assert_eq!(ops(&binary), names.into_iter().zip(ops_of_names).collect::<Vec<_>>());
    let (_folder, file) = library("libother.so", &names);
    assert_eq!(resolve(&file).unwrap().stacks, []);
}

/// Names that are not exported are found as well, and a longer name is another.
#[test]
fn a_program_with_symbols_of_its_own_is_known_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let code = "int x;\n__attribute__((noinline)) int SSL_read(void) { return ++x; }\n\
                __attribute__((noinline)) int my_SSL_write(void) { return x += 2; }\n\
                __attribute__((noinline)) int SSL_writer(void) { return x += 3; }\n\
                int main(void) { return SSL_read() + my_SSL_write() + SSL_writer(); }\n";
    std::fs::write(folder.path().join("program.c"), code).unwrap();
    run("cc", &["-O1", "program.c", "-o", "program"], folder.path());
    let binary = resolve(&File::open(folder.path().join("program")).unwrap()).unwrap();
    assert_eq!(ops(&binary), [("SSL_read", op::READ)]);
}

/// Whatever a file says of itself: an answer or an error, no panic, and no site outside of it.
#[test]
fn a_damaged_file_is_an_answer_or_an_error() {
    use std::os::unix::fs::FileExt;
    let go = npm("@esbuild/linux-x64", "0.28.2", "package/bin/esbuild");
    let mut whole = vec![0; go.metadata().unwrap().len() as usize];
    go.read_exact_at(&mut whole, 0).unwrap();
    let length = whole.len() as u64;
    let copy = tempfile::tempfile().unwrap();
    copy.write_all_at(&whole, 0).unwrap();
    // Headers, table of functions (header and entries), names of sections.
    let sections = u64::from_le_bytes(whole[0x28..0x30].try_into().unwrap());
    let places = [(0, 0x300), (0x6f6e80, 72), (0x6f6e80 + 0x1000, 0x100), (sections, 0x300)];
    let mut state = 1_u64;
    for round in 0..300_u64 {
        // Knuth's generator; every run is the same.
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let (from, size) = places[(round % 4) as usize];
        let (at, value) = (from + next() % size, [0, 1, 0x7f, 0xff][(next() % 4) as usize]);
        copy.write_all_at(&[value; 4], at).unwrap();
        if let Ok(binary) = resolve(&copy) {
            assert!(binary.sites().all(|site| site.offset < length), "byte {at:#x} is {value:#x}");
        }
        // Damage adds up for some rounds.
        if round % 8 == 7 {
            copy.write_all_at(&whole[..0x1000], 0).unwrap();
            for (from, size) in &places[1..] {
                let end = ((from + size + 4) as usize).min(whole.len());
                copy.write_all_at(&whole[*from as usize..end], *from).unwrap();
            }
        }
    }
    for length in [0, 3, 63, 64, 100, 0x1000, 0x600000, 0x700000] {
        copy.set_len(length).unwrap();
        if let Ok(binary) = resolve(&copy) {
            assert!(binary.sites().all(|site| site.offset < length), "cut to {length:#x}");
        }
    }
}
