/** What a device has dropped or refused since it was made, by reason: weather, not errors. */
export type Counters = {
  /** Received datagrams that are no WireGuard message. */
  malformed: number;
  /** Messages whose receiver index is no session or handshake of ours. */
  unknownIndex: number;
  /** Handshake messages whose mac1 is wrong: not meant for this public key. */
  mac1Invalid: number;
  /** Handshake messages answered with a cookie reply, being under load. */
  cookieRepliesSent: number;
  /** Handshake messages without a cookie that were not answered with one either: over the budget for cookies. */
  cookieRepliesWithheld: number;
  /** Handshake messages dropped under load in spite of a valid cookie: over the source's or the device's budget. */
  handshakesOverBudget: number;
  /** Handshake messages and cookie replies that do not decrypt, or carry a low-order point. */
  handshakesInvalid: number;
  /** Initiations from a public key that is no peer's. */
  peerUnknown: number;
  /** Initiations whose timestamp is not greater than the greatest seen, or that follow too soon. */
  handshakesReplayed: number;
  /** Transport messages that do not decrypt. */
  forged: number;
  /** Transport messages seen before, or older than the window. */
  replayed: number;
  /** Transport messages for a session past its age or message limit. */
  sessionExpired: number;
  /** Decrypted payloads that are no IP packet. */
  innerMalformed: number;
  /** Decrypted packets whose source address is not one of the peer's. */
  sourceNotAllowed: number;
  /** Packets to send that are no IP packet, or too long for one datagram. */
  packetMalformed: number;
  /** Packets to send whose destination is no peer's. */
  noPeer: number;
  /** Messages not sent because the peer has no endpoint. */
  noEndpoint: number;
  /** Packets pushed out of a full staging queue, or given up with the handshake they waited for. */
  stagedDropped: number;
};

export function zeroCounters(): Counters {
  return {
    malformed: 0,
    unknownIndex: 0,
    mac1Invalid: 0,
    cookieRepliesSent: 0,
    cookieRepliesWithheld: 0,
    handshakesOverBudget: 0,
    handshakesInvalid: 0,
    peerUnknown: 0,
    handshakesReplayed: 0,
    forged: 0,
    replayed: 0,
    sessionExpired: 0,
    innerMalformed: 0,
    sourceNotAllowed: 0,
    packetMalformed: 0,
    noPeer: 0,
    noEndpoint: 0,
    stagedDropped: 0,
  };
}
