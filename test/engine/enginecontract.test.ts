import { Engine } from "../../src/engine/engine.js";
import { backendContract } from "./backendcontract.js";
import { threadIn } from "./enginethread.js";
import { probesContract } from "./probescontract.js";

backendContract("the userspace engine", {
  prefix: "exn-en-u",
  open: async (place) => new Engine({ workerUrl: threadIn(place.name) }),
});

probesContract("probes of the userspace engine", {
  prefix: "exn-en-p",
  open: async (place) => new Engine({ workerUrl: threadIn(place.name) }),
});
