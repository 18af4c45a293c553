//! Who is at the other end: the client's address, as far as trusted proxies tell it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The client of a request; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client's own address. Behind trusted proxies, the right-most hop of `X-Forwarded-For` that is none of
    /// them. IPv4 inside IPv6 is written as IPv4.
    pub addr: IpAddr,
    /// The other end of the connection itself.
    pub socket: SocketAddr,
}

impl Peer {
    /// The client behind `socket`, believing `X-Forwarded-For` of `trusted` networks only.
    pub fn of(socket: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |addr: &IpAddr| trusted.iter().any(|network| network.contains(addr));
        let mut addr = socket.ip().to_canonical();
        for line in headers.get_all("x-forwarded-for").iter().rev() {
            for hop in line.to_str().unwrap_or("?").rsplit(',') {
                if !is_trusted(&addr) {
                    return Self { addr, socket };
                }
                // What a trusted proxy passed on and nobody can read stays that proxy's.
                let Some(hop) = hop_address(hop) else { return Self { addr, socket } };
                addr = hop;
            }
        }
        Self { addr, socket }
    }

    /// What limits count by: an IPv4 address, or an IPv6 address's /64, which is one customer's.
    pub fn bucket(&self) -> String {
        match self.addr {
            IpAddr::V4(addr) => addr.to_string(),
            IpAddr::V6(addr) => format!("{}/64", Ipv6Addr::from(u128::from(addr) & (u128::MAX << 64))),
        }
    }
}

/// An address as proxies write it: bare, with a port, in brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    let addr = bare.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    addr.ok().map(|addr: IpAddr| addr.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seen(socket: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Peer::of(socket.parse().unwrap(), &headers, &trusted).addr.to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("192.0.2.9:1", &["6.6.6.6"], &[]), "192.0.2.9");
        assert_eq!(seen("192.0.2.9:1", &["6.6.6.6"], &["10.0.0.0/8"]), "192.0.2.9");
    }

    #[test]
    fn behind_proxies_the_right_most_untrusted_hop_is_the_client() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6, 203.0.113.7"], &trusted), "203.0.113.7");
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6, 203.0.113.7, 10.0.0.2"], &trusted), "203.0.113.7");
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6", "203.0.113.7", "fd00::2"], &trusted), "203.0.113.7");
        assert_eq!(seen("10.0.0.1:1", &["203.0.113.7:5555"], &trusted), "203.0.113.7");
        assert_eq!(seen("10.0.0.1:1", &["[2001:db8::1]:5555"], &trusted), "2001:db8::1");
        assert_eq!(seen("10.0.0.1:1", &["[2001:db8::1]"], &trusted), "2001:db8::1");
    }

    #[test]
    fn where_the_chain_ends_or_breaks_the_last_known_hop_is_the_client() {
        assert_eq!(seen("10.0.0.1:1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1:1", &["10.0.0.3, 10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.3");
        assert_eq!(seen("10.0.0.1:1", &["203.0.113.7, unknown"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1:1", &["203.0.113.7, unknown, 10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.2");
        assert_eq!(seen("10.0.0.1:1", &[""], &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn ipv4_inside_ipv6_is_ipv4() {
        assert_eq!(seen("[::ffff:10.0.0.1]:1", &["::ffff:203.0.113.7"], &["10.0.0.0/8"]), "203.0.113.7");
    }

    #[test]
    fn limits_count_an_ipv6_network_as_one() {
        let bucket =
            |addr: &str| Peer { addr: addr.parse().unwrap(), socket: "[::1]:1".parse().unwrap() }.bucket();
        assert_eq!(bucket("2001:db8:1:2:aaaa::1"), bucket("2001:db8:1:2:bbbb::9"));
        assert_ne!(bucket("2001:db8:1:2::1"), bucket("2001:db8:1:3::1"));
        assert_eq!(bucket("192.0.2.1"), "192.0.2.1");
    }
}
