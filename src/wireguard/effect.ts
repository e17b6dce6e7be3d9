import type { Endpoint } from "../kit/endpoint.js";

/** What the protocol asks its driver to do. `packet` is a decrypted IP packet, its source checked, its padding gone. */
export type Effect =
  | { readonly kind: "send"; readonly to: Endpoint; readonly datagram: Uint8Array }
  | { readonly kind: "deliver"; readonly packet: Uint8Array };
