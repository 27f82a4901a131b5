//! Files that hold credentials, by where programs keep them: one table for the column `files.sensitive_class` and for what is
//! found in it.

use crate::shell::base_name;

/// A kind of credential.
#[derive(Debug)]
pub(crate) struct Class {
    /// As `files.sensitive_class` has it.
    pub name: &'static str,
    /// What its files hold.
    pub holds: &'static str,
    /// How their paths end; `*` stands for anything within a name.
    paths: &'static [&'static str],
    /// Programs that have these files for themselves: they use what they read and do not show it.
    owners: &'static [&'static str],
}

const CLASSES: &[Class] = &[
    Class {
        name: "ssh",
        holds: "a private key of SSH",
        paths: &[".ssh/id_*", ".ssh/identity", ".ssh/*.pem", ".ssh/*_key", "etc/ssh/ssh_host_*_key"],
        owners: &["ssh", "scp", "sftp", "rsync", "sshd", "ssh-add", "ssh-agent", "ssh-keygen", "sshfs", "git"],
    },
    Class {
        name: "cloud",
        holds: "credentials of a cloud",
        paths: &[
            ".aws/credentials",
            ".aws/sso/cache/*.json",
            ".aws/cli/cache/*.json",
            ".boto",
            ".s3cfg",
            "gcloud/application_default_credentials.json",
            "gcloud/credentials.db",
            "gcloud/access_tokens.db",
            "gcloud/legacy_credentials/*/adc.json",
            ".azure/accessTokens.json",
            ".azure/msal_token_cache.*",
            ".azure/service_principal_entries.json",
            ".oci/config",
            ".config/doctl/config.yaml",
            ".fly/config.yml",
            "rclone/rclone.conf",
        ],
        owners: &[
            "aws",
            "aws_completer",
            "sam",
            "cdk",
            "eksctl",
            "gcloud",
            "gsutil",
            "bq",
            "az",
            "terraform",
            "tofu",
            "pulumi",
            "kubectl",
            "oci",
            "doctl",
            "fly",
            "flyctl",
            "rclone",
            "s3cmd",
        ],
    },
    Class {
        name: "kubernetes",
        holds: "credentials of a cluster",
        paths: &[
            ".kube/config",
            "etc/kubernetes/*.conf",
            "rancher/k3s/k3s.yaml",
            "secrets/kubernetes.io/serviceaccount/token",
        ],
        owners: &[
            "kubectl",
            "helm",
            "k9s",
            "kustomize",
            "minikube",
            "kind",
            "k3s",
            "oc",
            "argocd",
            "flux",
            "stern",
            "terraform",
        ],
    },
    Class {
        name: "containers",
        holds: "credentials of a container registry",
        paths: &[".docker/config.json", "containers/auth.json", ".dockercfg", "run/secrets/*"],
        owners: &[
            "docker",
            "docker-compose",
            "docker-buildx",
            "dockerd",
            "podman",
            "buildah",
            "skopeo",
            "crane",
            "kind",
        ],
    },
    Class {
        name: "netrc",
        holds: "passwords of servers",
        paths: &[".netrc", "_netrc"],
        owners: &[
            "curl",
            "wget",
            "git",
            "git-remote-http",
            "git-remote-https",
            "ftp",
            "pip",
            "pip3",
            "uv",
            "go",
            "cargo",
        ],
    },
    Class {
        name: "packages",
        holds: "credentials of a package registry",
        paths: &[
            ".npmrc",
            ".yarnrc.yml",
            ".pypirc",
            ".cargo/credentials",
            ".cargo/credentials.toml",
            ".gem/credentials",
            ".m2/settings.xml",
            ".m2/settings-security.xml",
            ".composer/auth.json",
            "composer/auth.json",
            ".config/pip/pip.conf",
        ],
        owners: &[
            "npm", "npx", "node", "yarn", "pnpm", "bun", "bunx", "corepack", "twine", "pip", "pip3", "uv", "poetry",
            "cargo", "gem", "bundle", "mvn", "java", "composer", "php",
        ],
    },
    Class {
        name: "git",
        holds: "credentials of a code host",
        paths: &[".git-credentials", "git/credentials", "gh/hosts.yml", ".config/hub", "glab-cli/config.yml"],
        owners: &["git", "git-remote-http", "git-remote-https", "git-credential-store", "gh", "hub", "glab"],
    },
    Class {
        name: "dotenv",
        holds: "settings with secrets",
        paths: &[".env", ".env.*", ".envrc", "*.env"],
        owners: &["docker", "docker-compose", "direnv", "bun", "bunx"],
    },
    Class {
        name: "system",
        holds: "passwords of the system",
        paths: &[
            "etc/shadow",
            "etc/shadow-",
            "etc/gshadow",
            "etc/ssl/private/*",
            "etc/krb5.keytab",
            "etc/sssd/sssd.conf",
        ],
        owners: &["sudo", "su", "login", "sshd", "passwd", "unix_chkpwd", "useradd", "usermod", "chage", "cron"],
    },
    Class {
        name: "keyring",
        holds: "keys and passwords of a user",
        paths: &[
            ".gnupg/private-keys-v1.d/*",
            ".gnupg/secring.gpg",
            ".local/share/keyrings/*",
            "Library/Keychains/*",
            "*.kdbx",
            "*.p12",
            "*.pfx",
            ".password-store/*.gpg",
            "age/keys.txt",
        ],
        owners: &[
            "gpg",
            "gpg2",
            "gpgsm",
            "gpg-agent",
            "keyboxd",
            "gnome-keyring-daemon",
            "secret-tool",
            "pass",
            "keepassxc",
            "keepassxc-cli",
            "security",
            "age",
            "sops",
        ],
    },
    Class {
        name: "browser",
        holds: "passwords or sessions of a browser",
        paths: &[
            "Login Data",
            "Login Data For Account",
            "Cookies",
            "Web Data",
            "logins.json",
            "key4.db",
            "cookies.sqlite",
        ],
        owners: &[
            "chrome",
            "google-chrome",
            "chromium",
            "chromium-browser",
            "brave",
            "msedge",
            "firefox",
            "firefox-bin",
            "headless_shell",
        ],
    },
    Class {
        name: "database",
        holds: "passwords of a database",
        paths: &[".pgpass", ".my.cnf", ".mylogin.cnf", ".mongorc.js"],
        owners: &[
            "psql",
            "pg_dump",
            "pg_restore",
            "pg_isready",
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mariadb",
            "mongosh",
        ],
    },
    Class {
        name: "infrastructure",
        holds: "tokens of infrastructure tools",
        paths: &[
            ".vault-token",
            ".terraformrc",
            ".terraform.d/credentials.tfrc.json",
            ".pulumi/credentials.json",
            ".ansible/vault_pass*",
        ],
        owners: &["vault", "terraform", "tofu", "pulumi", "ansible", "ansible-vault", "ansible-playbook"],
    },
];

/// Files whose names say that nothing secret is in them.
const HARMLESS: &[&str] = &[".pub", ".example", ".sample", ".template", ".dist", ".d.ts"];

/// Folders of a browser's profile: names of files in it are too common elsewhere.
const PROFILES: &[&str] = &["chrome", "chromium", "brave", "edge", "firefox", "opera", "vivaldi", "mozilla"];

/// The class of a file, by its path.
pub(crate) fn class(path: &str) -> Option<&'static Class> {
    let name = base_name(path);
    if HARMLESS.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    CLASSES.iter().find(|class| {
        let ends = class.paths.iter().any(|pattern| path_ends(path, pattern));
        ends && (class.name != "browser" || is_profile(path))
    })
}

impl Class {
    /// Whether a program, given by its arguments, has such files for itself; a script is known by its name.
    pub fn is_of(&self, args: &[String]) -> bool {
        args.iter().take(3).any(|arg| self.owners.contains(&base_name(arg)))
    }
}

fn is_profile(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    PROFILES.iter().any(|browser| path.contains(browser))
}

/// Whether the last names of a path are those of a pattern.
fn path_ends(path: &str, pattern: &str) -> bool {
    let mut names = path.rsplit('/');
    pattern.rsplit('/').all(|pattern| names.next().is_some_and(|name| is_like(name, pattern)))
}

fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((start, end)) => {
            name.len() >= start.len() + end.len()
                && name.starts_with(start)
                && name.rsplit_once(end).is_some_and(|(_, rest)| rest.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_credentials_are_known_by_where_they_are() {
        let cases = [
            ("/home/me/.ssh/id_ed25519", Some("ssh")),
            ("/home/me/.ssh/id_ed25519.pub", None),
            ("/home/me/.ssh/known_hosts", None),
            ("/root/.aws/credentials", Some("cloud")),
            ("/root/.aws/config", None),
            ("/home/me/.config/gcloud/application_default_credentials.json", Some("cloud")),
            ("/home/me/.kube/config", Some("kubernetes")),
            ("/var/run/secrets/kubernetes.io/serviceaccount/token", Some("kubernetes")),
            ("/home/me/.docker/config.json", Some("containers")),
            ("/home/me/.netrc", Some("netrc")),
            ("/w/.npmrc", Some("packages")),
            ("/home/me/.pypirc", Some("packages")),
            ("/home/me/.config/gh/hosts.yml", Some("git")),
            ("/w/.env", Some("dotenv")),
            ("/w/.env.production", Some("dotenv")),
            ("/w/prod.env", Some("dotenv")),
            ("/w/.env.example", None),
            ("/w/environment", None),
            ("/etc/shadow", Some("system")),
            ("/etc/passwd", None),
            ("/home/me/.gnupg/private-keys-v1.d/AB.key", Some("keyring")),
            ("/home/me/.config/google-chrome/Default/Login Data", Some("browser")),
            ("/home/me/.mozilla/firefox/x.default/key4.db", Some("browser")),
            ("/w/Cookies", None),
            ("/home/me/.pgpass", Some("database")),
            ("/home/me/.claude/.credentials.json", None),
            ("/w/src/main.rs", None),
            ("id_rsa", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(class(path).map(|class| class.name), expected, "{path}");
        }
    }

    #[test]
    fn some_programs_have_these_files_for_themselves() {
        let is_of = |path: &str, args: &[&str]| {
            class(path).unwrap().is_of(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
        };
        assert!(is_of("/root/.aws/credentials", &["python3", "/usr/bin/aws", "s3", "ls"]));
        assert!(is_of("/root/.ssh/id_rsa", &["/usr/bin/ssh", "host"]));
        assert!(!is_of("/root/.ssh/id_rsa", &["cat", "/root/.ssh/id_rsa"]));
    }
}
