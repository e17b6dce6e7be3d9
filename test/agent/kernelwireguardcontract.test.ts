import { KernelWireGuard } from "../../src/agent/kernelwireguard.js";
import { systemClock } from "../../src/sys/clock.js";
import { openProbeSocket } from "../../src/sys/probesocket.js";
import { type Bench, backendContract } from "../engine/backendcontract.js";
import { insidePlace } from "../engine/insideplace.js";
import { startWireguardGo } from "../engine/places.js";
import { probesContract } from "../engine/probescontract.js";

// A machine without the kernel's module tests all but `ip link add`: wireguard-go speaks to `wg` as the kernel does,
// and its interface is there to be adopted. It goes away when the interface is deleted.
const bench = (prefix: string): Bench => ({
  prefix,
  open: async (place, device) => {
    await startWireguardGo(place, device);
    const openSocket = (port: number) => insidePlace(place, () => openProbeSocket(port));
    return new KernelWireGuard(place.exec, device, systemClock, openSocket);
  },
});
backendContract("wg and ip, on wireguard-go in the kernel's place", bench("exn-en-k"));
probesContract("probes beside wireguard-go in the kernel's place", bench("exn-en-p"));
