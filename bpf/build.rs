//! Compiles the eBPF programs and generates their skeleton.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::path::PathBuf;

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    println!("cargo:rerun-if-changed=src/programs");
    let clang = std::env::var_os("CLANG").unwrap_or("clang".into());
    if std::process::Command::new(&clang).arg("--version").output().is_err() {
        return Err("clang compiles the eBPF programs and is not here: scripts/setup installs it \
                    (without the recording half: cargo build --no-default-features)"
            .into());
    }
    libbpf_cargo::SkeletonBuilder::new()
        .source("src/programs/agentsight.bpf.c")
        .obj(out.join("agentsight.bpf.o"))
        .clang(clang)
        .clang_args(["-Wall", "-Werror", "-mcpu=v3"])
        .build_and_generate(out.join("skeleton.rs"))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
