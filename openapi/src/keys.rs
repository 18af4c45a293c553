//! The keys of agents: their RSA key, its fingerprint, and the shared secret that it carries.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rsa::{
    pkcs8::{DecodePublicKey as _, EncodePublicKey as _},
    traits::PublicKeyParts as _,
};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// An agent's public RSA key.
pub type RsaPublic = rsa::PublicKey;
/// An agent's private RSA key.
pub type RsaPrivate = rsa::PrivateKey;

/// The longest PEM text that is looked at, in bytes.
pub const PEM_MAX: usize = 2 * 1024;
/// The smallest and the largest modulus of an agent's key, in bits.
pub const MODULUS_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;
/// The only public exponent of an agent's key.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Why a key or a secret was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not an SPKI PEM of an RSA key.
    #[error("the public key is not an RSA key in SPKI PEM")]
    NotAKey,
    /// The PEM text is longer than [`PEM_MAX`].
    #[error("the public key is longer than {PEM_MAX} bytes")]
    TooLong,
    /// The modulus is outside [`MODULUS_BITS`].
    #[error("the public key has {0} bits; 2048 to 4096 are accepted")]
    Size(u32),
    /// The public exponent is not 65537.
    #[error("the public key's exponent is not 65537")]
    Exponent,
    /// The key cannot be written as SPKI.
    #[error("the public key cannot be encoded")]
    Encoding,
    /// The text is not padded standard base64 of exactly 32 bytes.
    #[error("a secret is the padded base64 of exactly 32 bytes")]
    NotASecret,
    /// Encrypting the secret failed.
    #[error("the secret cannot be encrypted to this key")]
    Seal,
    /// The sealed secret is damaged or meant for another key.
    #[error("the sealed secret cannot be opened with this key")]
    Open,
}

/// The 32 bytes an approved agent and the bastion share; wiped when dropped, masked when printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the 32 bytes as they are.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the base64 text (RFC 4648 §4, padded, nothing around it).
    ///
    /// # Errors
    /// [`KeyError::NotASecret`] for anything but the canonical text of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::NotASecret)?);
        let bytes = bytes.as_slice().try_into().map_err(|_| KeyError::NotASecret)?;
        Ok(Self(bytes))
    }

    /// The base64 text (RFC 4648 §4, padded): 44 characters.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The bytes themselves; the caller keeps them out of logs.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads an agent's public key from SPKI PEM.
///
/// # Errors
/// When the text is too long, is no RSA key, or its modulus or exponent is not accepted.
pub fn parse_public_key(pem: &str) -> Result<RsaPublic, KeyError> {
    if pem.len() > PEM_MAX {
        return Err(KeyError::TooLong);
    }
    let key = RsaPublic::from_public_key_pem(pem).map_err(|_| KeyError::NotAKey)?;
    let bits = key.n().bit_width_vartime();
    if !MODULUS_BITS.contains(&bits) {
        return Err(KeyError::Size(bits));
    }
    if *key.e_bytes() != EXPONENT {
        return Err(KeyError::Exponent);
    }
    Ok(key)
}

/// `SHA256:` and the padded base64 of the SHA-256 of the key's SPKI DER, as admin and agent compare it.
///
/// # Errors
/// [`KeyError::Encoding`] when the key cannot be written as SPKI.
pub fn fingerprint(key: &RsaPublic) -> Result<String, KeyError> {
    let der = key.to_public_key_der().map_err(|_| KeyError::Encoding)?;
    Ok(format!("SHA256:{}", STANDARD.encode(Sha256::digest(der.as_bytes()))))
}

/// Encrypts the secret's base64 text to an agent's key: base64 of RSA-OAEP with SHA-256 throughout and an empty label.
///
/// # Errors
/// [`KeyError::Seal`] when the key or the random source fails.
pub fn seal_secret(key: &RsaPublic, secret: &Secret) -> Result<String, KeyError> {
    let text = Zeroizing::new(secret.to_base64());
    let sealed = key.oaep_encrypt::<Sha256>(text.as_bytes()).map_err(|_| KeyError::Seal)?;
    Ok(STANDARD.encode(sealed))
}

/// Opens what [`seal_secret`] made.
///
/// # Errors
/// [`KeyError::Open`] when it was sealed to another key or is damaged, [`KeyError::NotASecret`] when it holds no secret.
pub fn open_secret(key: &RsaPrivate, sealed: &str) -> Result<Secret, KeyError> {
    let sealed = STANDARD.decode(sealed).map_err(|_| KeyError::Open)?;
    let text = key.oaep_decrypt::<Sha256>(&sealed).map_err(|_| KeyError::Open)?;
    let text = Zeroizing::new(text);
    let text = std::str::from_utf8(&text).map_err(|_| KeyError::NotASecret)?;
    Secret::from_base64(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const RFC_KEY: &str = include_str!("../tests/data/rsa-pss-public.pem");

    fn private(bits: usize) -> RsaPrivate {
        RsaPrivate::new(&mut rsa_rng(), bits).unwrap()
    }

    fn rsa_rng() -> impl rsa::rand_core::CryptoRng {
        TestRng(0x9e37_79b9_7f4a_7c15)
    }

    /// A repeatable stream: keys of tests need no secrecy.
    struct TestRng(u64);

    impl rsa::rand_core::TryRng for TestRng {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok((self.try_next_u64()? >> 32) as u32)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Ok(z ^ (z >> 31))
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
            for chunk in dst.chunks_mut(8) {
                let bytes = self.try_next_u64()?.to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
            Ok(())
        }
    }

    impl rsa::rand_core::TryCryptoRng for TestRng {}

    fn pem(key: &RsaPublic) -> String {
        key.to_public_key_pem(rsa::pkcs8::LineEnding::LF).unwrap()
    }

    #[test]
    fn a_fingerprint_is_what_openssl_says() {
        // openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64
        let key = parse_public_key(RFC_KEY).unwrap();
        assert_eq!(fingerprint(&key).unwrap(), "SHA256:coWcuvIaCzmLHyVxK77RSLHYWgxrgkF26zBkBcqm8LI=");
    }

    #[test]
    fn a_sealed_secret_opens_with_its_key_and_no_other() {
        let key = private(2048);
        let secret = Secret::new([7; 32]);
        let sealed = seal_secret(key.as_public_key(), &secret).unwrap();
        assert_eq!(open_secret(&key, &sealed).unwrap().expose(), &[7; 32]);
        let other = parse_public_key(RFC_KEY).unwrap();
        let foreign = seal_secret(&other, &secret).unwrap();
        assert!(matches!(open_secret(&key, &foreign), Err(KeyError::Open)));
    }

    #[test]
    fn weak_long_and_malformed_keys_are_refused() {
        let weak = pem(private(1024).as_public_key());
        assert!(matches!(parse_public_key(&weak), Err(KeyError::Size(1024))));
        let odd = RsaPrivate::new_with_exp(&mut rsa_rng(), 2048, 17u64.into()).unwrap();
        assert!(matches!(parse_public_key(&pem(odd.as_public_key())), Err(KeyError::Exponent)));
        assert!(matches!(parse_public_key(&"A".repeat(PEM_MAX + 1)), Err(KeyError::TooLong)));
        assert!(matches!(parse_public_key("hello"), Err(KeyError::NotAKey)));
    }

    #[test]
    fn a_secret_is_read_strictly_and_never_printed() {
        let text = Secret::new([255; 32]).to_base64();
        assert_eq!(text.len(), 44);
        assert!(Secret::from_base64(&text).is_ok());
        for bad in [text.trim_end_matches('='), &format!("{text}\n"), "", "AAAA", &text.replace('/', "_")] {
            assert!(Secret::from_base64(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", Secret::new([255; 32])), "Secret(…)");
    }
}
