import { KernelWireGuard } from "../../src/agent/kernelwireguard.js";
import { systemClock } from "../../src/sys/clock.js";
import { backendContract } from "../engine/backendcontract.js";
import { startWireguardGo } from "../engine/places.js";

// A machine without the kernel's module tests all but `ip link add`: wireguard-go speaks to `wg` as the kernel does,
// and its interface is there to be adopted. It goes away when the interface is deleted.
backendContract("wg and ip, on wireguard-go in the kernel's place", {
  prefix: "exn-en-k",
  open: async (place, device) => {
    await startWireguardGo(place, device);
    return new KernelWireGuard(place.exec, device, systemClock);
  },
});
