import { Engine } from "../../src/engine/engine.js";
import { backendContract } from "../engine/backendcontract.js";
import { threadIn } from "../engine/enginethread.js";
import { probesContract } from "../engine/probescontract.js";

/** The userspace engine on the kernel of a Debian: the offloads of its TUN device and its UDP sockets are that kernel's. */
const bench = (prefix: string) => ({
  prefix,
  open: async (place: { readonly name: string }) => new Engine({ workerUrl: threadIn(place.name) }),
});
backendContract("the userspace engine", bench("exn-kw-e"));
probesContract("probes of the userspace engine", bench("exn-kw-f"));
