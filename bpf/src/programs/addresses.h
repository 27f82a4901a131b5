/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Addresses and names of sockets: as the kernel keeps them, and as programs say them. Included by sockets.h.
 */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_VSOCK 40
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SUN_PATH_LEN 108
#define FAMILY_LEN 2 /* of the family, which an address begins with */

/* struct sockaddr of all families that matter here. */
struct address {
	u16 family;
	u16 port; /* network byte order */
	union {
		u32 ip;
		u32 vsock_port;
	};
	union {
		u8 ip6[16];
		u32 vsock_context;
	};
};

/* Who is at an end of a socket: the address as records have it, of a local socket a digest of its name; and the port. */
struct peer_name {
	u64 address[2];
	u16 port;
	u16 reserved[3];
};

static __always_inline u16 from_network(u16 value)
{
	return value >> 8 | value << 8;
}

static __always_inline bool is_named(const struct peer_name *name)
{
	return name->address[0] || name->address[1] || name->port;
}

static __always_inline bool is_same(const struct peer_name *one, const struct peer_name *other)
{
	return one->address[0] == other->address[0] && one->address[1] == other->address[1] && one->port == other->port;
}

/* Reads the address that a program has named for a socket of this family, into 16 bytes. Returns whether it is one. */
static __always_inline bool read_address(u64 *to, u16 *port, u16 family, const void *from)
{
	struct address address = {};
	const void *rest = from + offsetof(struct address, ip6);

	/* An address of IPv4 is shorter than the others, and may be the last in its page. */
	if (bpf_probe_read_user(&address, offsetof(struct address, ip6), from))
		return false;
	if (address.family != family && !(address.family == AF_INET && family == AF_INET6))
		return false;
	to[0] = to[1] = 0;
	*port = from_network(address.port);
	if (family == AF_INET) {
		to[0] = address.ip;
	} else if (address.family == AF_INET) {
		/* Within IPv6 these are ::ffff:0:0/96. */
		to[1] = (u64)address.ip << 32 | 0xffff0000;
	} else if (family == AF_INET6) {
		return !bpf_probe_read_user(to, sizeof(address.ip6), rest);
	} else if (family == AF_VSOCK) {
		/* Of 32 bits each, the context stands first in records. */
		*port = 0;
		to[0] = (u64)address.vsock_port << 32;
		return !bpf_probe_read_user(to, sizeof(address.vsock_context), rest);
	}
	return true;
}

static __always_inline void fill_addresses(struct asc_socket *record, struct sock *sk)
{
	u16 family = READ(sk, __sk_common.skc_family);

	__builtin_memset(record->local, 0, sizeof(record->local));
	__builtin_memset(record->peer, 0, sizeof(record->peer));
	record->local_port = 0;
	record->peer_port = 0;
	if (family == AF_INET) {
		BPF_CORE_READ_INTO((u32 *)record->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((u32 *)record->peer, sk, __sk_common.skc_daddr);
	} else if (family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)record->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)record->peer, sk, __sk_common.skc_v6_daddr);
	} else {
		return;
	}
	/* Of a raw socket the kernel keeps its protocol there. */
	if (READ(sk, sk_type) == SOCK_RAW)
		return;
	record->local_port = READ(sk, __sk_common.skc_num);
	record->peer_port = from_network(READ(sk, __sk_common.skc_dport));
}

/* The name of a local socket, which is a path, or an abstract one: that begins with NUL, and `len` says where it ends. */
static __always_inline u32 append_name(void *to, const void *name, u32 len, bool user)
{
	long got = user ? read_user_text(to, SUN_PATH_LEN, name) : bpf_probe_read_kernel_str(to, SUN_PATH_LEN, name) - 1;

	if (got > 0)
		return got < SUN_PATH_LEN ? got : 0;
	barrier_var(len);
	if (got < 0 || len > SUN_PATH_LEN)
		return 0;
	return (user ? bpf_probe_read_user(to, len, name) : bpf_probe_read_kernel(to, len, name)) ? 0 : len;
}

/* The same of the socket that accepted a connection, or waits for some. */
static __always_inline u32 append_own_name(void *to, struct sock *sk)
{
	struct unix_sock *unix = (void *)sk;
	struct unix_address *address = READ(unix, addr);

	if (!address)
		return 0;
	return append_name(to, (void *)address + bpf_core_field_offset(struct unix_address, name) + FAMILY_LEN,
			   READ(address, len) - FAMILY_LEN, false);
}

#define NAME_WORDS (SUN_PATH_LEN / 8 + 1)

/* A name that is looked at. The stack has no room for it below others. */
struct naming {
	struct peer_name name;
	u64 words[NAME_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct naming);
} namings SEC(".maps");

/* A digest of a local socket's name, as a program says it: what tells it from others. */
static __always_inline void digest_name(struct naming *naming, u64 name, u32 name_len)
{
	u64 *digest = naming->name.address;

	__builtin_memset(naming->words, 0, sizeof(naming->words));
	if (!append_name(naming->words, (void *)name + FAMILY_LEN, name_len - FAMILY_LEN, true))
		return;
	for (u32 i = 0; i < NAME_WORDS; i++) {
		digest[0] = (digest[0] ^ naming->words[i]) * 0x100000001b3;
		digest[1] = (digest[1] + naming->words[i]) * 0x9e3779b97f4a7c15;
		digest[1] ^= digest[1] >> 29;
	}
	digest[0] |= 1;
}
