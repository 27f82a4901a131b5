//! The ends of a socket as its records tell them.

use agentsight_formats::record::{Socket, family, ip_address, socket_op, vsock_address};
use std::net::IpAddr;

const TCP: u16 = 6;
const UDP: u16 = 17;

/// Of AF_VSOCK, whichever context the machine has (VMADDR_CID_ANY).
const ANY_CONTEXT: u32 = u32::MAX;

/// Address and port of an end; what is not known of it is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub address: Option<String>,
    pub port: Option<i64>,
    pub ip: Option<IpAddr>,
}

/// This end. Who binds a socket or listens may do so at all addresses of the machine; of others, such an address is none.
pub(crate) fn local(socket: &Socket) -> End {
    let any = matches!(socket.op.get(), socket_op::BIND | socket_op::LISTEN) && socket.local_port.get() != 0;
    end(socket.family.get(), (&socket.local, socket.local_port.get()), any)
}

/// The other end.
pub(crate) fn peer(socket: &Socket) -> End {
    end(socket.family.get(), (&socket.peer, socket.peer_port.get()), false)
}

fn end(of: u16, (bytes, port): (&[u8; 16], u16), any: bool) -> End {
    if of == family::VSOCK {
        let (context, port) = vsock_address(bytes);
        let known = (context, port) != (0, 0);
        let address = if context == ANY_CONTEXT { "any".to_owned() } else { context.to_string() };
        return End { address: known.then_some(address), port: known.then(|| port.into()), ip: None };
    }
    let ip = ip_address(of, bytes).map(|ip| ip.to_canonical()).filter(|ip| any || !ip.is_unspecified());
    End { address: ip.map(|ip| ip.to_string()), port: Some(i64::from(port)).filter(|port| *port != 0), ip }
}

pub(crate) fn transport(socket: &Socket) -> Option<String> {
    Some(match (socket.family.get(), socket.protocol.get()) {
        (family::UNIX, _) => "unix".to_owned(),
        (family::VSOCK, _) => "vsock".to_owned(),
        (_, TCP) => "tcp".to_owned(),
        (_, UDP) => "udp".to_owned(),
        (_, protocol) => protocol.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn socket(of: u16, op: u16, local: &[u8], peer: &[u8]) -> Socket {
        let mut socket = Socket::new_zeroed();
        (socket.family, socket.op) = (of.into(), op.into());
        (socket.local_port, socket.peer_port) = (80.into(), 443.into());
        socket.local[..local.len()].copy_from_slice(local);
        socket.peer[..peer.len()].copy_from_slice(peer);
        socket
    }

    fn known(end: End) -> (Option<String>, Option<i64>) {
        (end.address, end.port)
    }

    #[test]
    fn who_listens_at_all_addresses_says_so_and_who_is_connected_does_not() {
        let listens = socket(family::INET, socket_op::LISTEN, &[0; 4], &[]);
        assert_eq!(known(local(&listens)), (Some("0.0.0.0".to_owned()), Some(80)));
        let connects = socket(family::INET6, socket_op::CONNECT, &[0; 16], &[0; 16]);
        assert_eq!(known(local(&connects)), (None, Some(80)));
        assert_eq!(known(peer(&connects)), (None, Some(443)));
    }

    #[test]
    fn machines_of_vsock_have_numbers_and_long_ports() {
        let context = |number: u32, port: u32| [number.to_le_bytes(), port.to_le_bytes()].concat();
        let socket = socket(family::VSOCK, socket_op::CONNECT, &context(ANY_CONTEXT, 9), &context(2, 70_000));
        assert_eq!(known(local(&socket)), (Some("any".to_owned()), Some(9)));
        assert_eq!(known(peer(&socket)), (Some("2".to_owned()), Some(70_000)));
        assert_eq!(transport(&socket).as_deref(), Some("vsock"));
        assert_eq!(known(end(family::VSOCK, (&[0; 16], 7), false)), (None, None));
    }
}
