import { SECOND } from "../kit/time.js";

/** Every number of WireGuard, the paper's apart from ours. "Paper" is Donenfeld, "WireGuard", 2020 revision. */

// ── From the paper, §5.4 ──
export const CONSTRUCTION = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
export const IDENTIFIER = "WireGuard v1 zx2c4 Jason@zx2c4.com";
export const LABEL_MAC1 = "mac1----";
export const LABEL_COOKIE = "cookie--";
export const MAC_BYTES = 16;
/** §5.4.6: plaintexts are padded with zeros to a multiple of this. */
export const PADDING_BYTES = 16;
/** §5.4.7: the responder's secret changes every two minutes. */
export const COOKIE_SECRET_MAX_AGE_MS = 120 * SECOND;

// ── From the paper, §6.1 ──
/** 2^60, as the high half of a 64-bit counter. */
export const REKEY_AFTER_MESSAGES_HIGH = 2 ** 28;
/** 2^64 - 2^13 - 1, as its halves. */
export const REJECT_AFTER_MESSAGES_HIGH = 0xffff_ffff;
export const REJECT_AFTER_MESSAGES_LOW = 0xffff_dfff;
export const REKEY_AFTER_MS = 120 * SECOND;
export const REJECT_AFTER_MS = 180 * SECOND;
export const REKEY_ATTEMPT_MS = 90 * SECOND;
export const REKEY_TIMEOUT_MS = 5 * SECOND;
export const KEEPALIVE_TIMEOUT_MS = 10 * SECOND;
/** §6.3: all keys are forgotten this long after the last handshake. */
export const ZERO_AFTER_MS = 3 * REJECT_AFTER_MS;
/** §6.2: the initiator that receives on a session this old rekeys, so that there is time left for it to succeed. */
export const REKEY_ON_RECEIVE_AFTER_MS = REJECT_AFTER_MS - KEEPALIVE_TIMEOUT_MS - REKEY_TIMEOUT_MS;
/** §6.5: silence after sending this long starts a handshake. */
export const SILENCE_MS = KEEPALIVE_TIMEOUT_MS + REKEY_TIMEOUT_MS;
/** §6.1: retries are spread by up to a third of a second, so that two peers do not keep colliding. */
export const REKEY_JITTER_MS = 333;

// ── Ours ──
/** As many as a network map holds (wire/map.ts): an exit node may be everybody's. Each costs 2 to 3 KB. */
export const PEERS_MAX = 16_384;
/** Packets kept while a handshake runs. The oldest is dropped: a late packet is worth less than a new one. */
export const STAGED_PACKETS_MAX = 128;
/** Counters behind the greatest that are still taken: at 1 Gbit/s of full packets, 95 ms of reordering. */
export const REPLAY_WINDOW_COUNTERS = 8_192;
/** A UDP payload over IPv4 (65,507 bytes) less the transport message's header, tag and padding. */
export const PACKET_BYTES_MAX = 65_456;
/** Trust in a received cookie ends this long before the sender's secret changes: the flight time of a message. */
export const COOKIE_LATENCY_MS = 5 * SECOND;
/** After two crossing handshakes one side leaves the renewal to the other for this long: two retries. */
export const REKEY_YIELD_MS = 2 * REKEY_TIMEOUT_MS;
/**
 * How long the answer to an initiation may take. Within it a peer that has moved is sent the same one again: if it was
 * lost, it is the first, and if it was not, it is dropped as a replay, where a new one would make its answer void.
 */
export const ANSWER_MS = SECOND;
/** A peer's initiations are taken no faster, so that a replaying attacker gains nothing from a burst. */
export const INITIATION_GAP_MS = 20;
/** Timestamps are rounded down to this: a finer one would tell how far the clock is off (2^24 ns in the kernel). */
export const TIMESTAMP_STEP_NS = 2 ** 24;

// Answering an initiation takes 0.6 ms (measured with node:crypto): 100 a second is 6 % of a core.
/** More handshake messages than this in a second, and senders must prove their address with a cookie. */
export const HANDSHAKES_BEFORE_LOAD = 100;
/** The most handled in a second, cookies or not; further ones are dropped. */
export const HANDSHAKES_MAX_UNDER_LOAD = 400;
// A cookie reply takes 15 us (measured): 1,000 a second are 1.5 % of a core.
/** The most cookie replies in a second, to all and to one source address. */
export const COOKIE_REPLIES_MAX = 1_000;
export const COOKIE_REPLIES_PER_SOURCE_MAX = 50;
/** "Under load" lasts this long after the last excess. */
export const LOAD_LASTS_MS = 1 * SECOND;
/** Per source address under load. */
export const SOURCE_MESSAGES_MAX = { perSecond: 20, burst: 5 } as const;
/** Source addresses remembered by the budget; at the bound the whole table is begun anew. */
export const SOURCES_MAX = 4_096;
