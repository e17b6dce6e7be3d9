import type { MessagePort } from "node:worker_threads";
import type { InterfaceState, WantInterface } from "../wireguard/interface.js";

/** What the engine and its thread say to each other. Every request is answered once, by its number. */
export type Request =
  | { readonly id: number; readonly do: "set"; readonly want: WantInterface }
  | { readonly id: number; readonly do: "state" }
  | { readonly id: number; readonly do: "close" };

export type Reply =
  | { readonly id: number; readonly state?: InterfaceState }
  | {
      readonly id: number;
      readonly failure: { readonly code: string; readonly message: string; readonly advice?: string };
    };

/** What the thread is started with. */
export type ThreadData = { readonly purpose: "exitnode-engine"; readonly port: MessagePort; readonly bellFd: number };
