import type { MessagePort } from "node:worker_threads";
import type { Endpoint } from "../kit/endpoint.js";
import type { Key } from "../kit/key.js";
import type { InterfaceState, WantInterface } from "../wireguard/interface.js";
import type { Offload } from "./offloads.js";

/** What the engine says to its thread. Every request is answered once, by its number; a probe is not. */
export type Request =
  | { readonly id: number; readonly do: "set"; readonly want: WantInterface }
  | { readonly id: number; readonly do: "state" }
  | { readonly id: number; readonly do: "point"; readonly publicKey: Key; readonly endpoint: Endpoint }
  | { readonly id: number; readonly do: "close" };

export type ProbeOut = {
  readonly do: "probe";
  readonly to: Endpoint;
  readonly datagram: Uint8Array;
  readonly whole: boolean;
};

export type Reply =
  | { readonly id: number; readonly state?: InterfaceState }
  | {
      readonly id: number;
      readonly failure: { readonly code: string; readonly message: string; readonly advice?: string };
    };

export type ProbeIn = { readonly from: Endpoint; readonly datagram: Uint8Array };

/** What the thread is started with. */
export type ThreadData = {
  readonly purpose: "exitnode-engine";
  readonly port: MessagePort;
  readonly bellFd: number;
  readonly without: readonly Offload[];
};
