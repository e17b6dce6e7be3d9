import { backendContract } from "../engine/backendcontract.js";
import { probesContract } from "../engine/probescontract.js";
import { kernelIn } from "./kernelbench.js";

const bench = (prefix: string) => ({
  prefix,
  open: async (place: Parameters<typeof kernelIn>[0], device: string) => kernelIn(place, device),
});
backendContract("the kernel's WireGuard", bench("exn-kw-k"));
probesContract("probes beside the kernel's WireGuard", bench("exn-kw-p"));
