import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { KEEPERS, KeeperMachine } from "./keepermachine.js";
import { CAFE, EXIT, LookupsWorld, OWN_RESOLVER } from "./lookupsworld.js";

/** Real packets again, on a machine whose resolvers Debian's own programs look after. */

const LIMIT = { timeout: 300_000 };

for (const keeper of KEEPERS)
  describe(`a machine with ${keeper}`, () => {
    const world = new LookupsWorld("exn-ag-");
    let machine: KeeperMachine;
    before(async () => {
      await world.raise();
      machine = await KeeperMachine.start(keeper, world.places.host, "eth0", "192.168.7.1");
      world.enter = machine.enter;
    });
    after(async () => {
      await machine?.stop();
      await world.close();
    });
    const rules = (): Promise<string> => world.inHost("nft list ruleset");
    const untouched = async (): Promise<string[]> => [await machine.state(), await rules()];
    /** By glibc and the keeper; by resolv.conf alone. */
    const lookUp = async (name: string): Promise<string[]> => [
      await machine.lookUp(name),
      await world.lookUp(`again.${name}`),
    ];

    test(
      "without an exit the network's names are answered here, and the rest by the café as before",
      LIMIT,
      async () => {
        const before = await untouched();
        assert.deepEqual(await lookUp("anything.test"), [CAFE, CAFE]);
        const agent = world.agent();
        await agent.use(undefined);
        const heard = await world.listen();
        assert.equal(await machine.lookUp("home.home.example"), "100.64.0.1");
        assert.equal(await machine.lookUp("nas.home.example"), "192.168.1.9");
        assert.equal(await machine.lookUp("nobody.home.example"), "");
        // systemd-resolved asks its neighbours whether somebody has the machine's own name.
        const asked = (await heard()).filter((line) => !line.includes(".5355: "));
        assert.deepEqual(asked, []);
        const others = await world.listen();
        assert.deepEqual(await lookUp("more.test"), [CAFE, CAFE]);
        await machine.lookUp("singleword");
        const ways = (await others()).join("\n");
        assert.match(ways, /\.53: .*more\.test/);
        if (keeper === "systemd-resolved") assert.match(ways, /224\.0\.0\.252\.5355: /, "neighbours are asked as well");
        await agent.stop();
        await world.clean();
        assert.deepEqual(await untouched(), before);
      },
    );

    test(
      "while an exit is used no look-up of any kind reaches the café, and nothing is left of that after kill -9",
      LIMIT,
      async () => {
        const before = await untouched();
        const agent = world.agent();
        const dns = await agent.use("home");
        const heard = await world.listen();
        assert.deepEqual(await lookUp("through.test"), [EXIT, EXIT]);
        assert.equal(await machine.lookUp("home.home.example"), "100.64.0.1");
        await machine.lookUp("singleword");
        await machine.lookUp("printer.local");
        assert.equal((await world.leakTest(dns)).found?.tight, true);
        assert.deepEqual(await heard(), []);
        await agent.stop("SIGKILL");
        const afterwards = await world.listen();
        assert.ok(!(await lookUp("dead.test")).includes(CAFE), "nor while there is no agent");
        assert.deepEqual(await afterwards(), []);
        await world.clean();
        assert.deepEqual(await untouched(), before);
        assert.deepEqual(await lookUp("restored.test"), [CAFE, CAFE]);
      },
    );

    test(
      "no answer of another way is kept: not with use, nor with other resolvers, nor when the agent has gone",
      LIMIT,
      async () => {
        assert.equal(await machine.lookUp("kept.test"), CAFE);
        const heard = await world.listen();
        assert.equal(await machine.lookUp("kept.test"), CAFE);
        const asked = (await heard()).filter((line) => line.includes("kept.test"));
        if (keeper === "systemd-resolved") assert.deepEqual(asked, [], "the machine has a cache");
        const agent = world.agent();
        await agent.use("home");
        assert.equal(await machine.lookUp("kept.test"), EXIT);
        await agent.use("home", "mine");
        assert.equal(await machine.lookUp("kept.test"), CAFE);
        await agent.use("home");
        assert.equal(await machine.lookUp("kept.test"), EXIT);
        await agent.stop("SIGKILL");
        await world.clean();
        assert.equal(await machine.lookUp("kept.test"), CAFE);
      },
    );

    test(
      "a resolver that the next network gives while an exit is used is not asked, and is afterwards",
      LIMIT,
      async () => {
        const agent = world.agent();
        await agent.use("home");
        const heard = await world.listen();
        await machine.tell("eth0", OWN_RESOLVER);
        assert.deepEqual(await lookUp("moved.test"), [EXIT, EXIT]);
        assert.deepEqual(await heard(), []);
        const { servers } = await agent.use("home", "mine");
        assert.deepEqual(servers, [OWN_RESOLVER]);
        await agent.use(undefined);
        assert.equal(await machine.lookUp("nas.home.example"), "192.168.1.9");
        assert.deepEqual(await lookUp("later.test"), [CAFE, CAFE]);
        await agent.stop();
        await world.clean();
        await machine.tell("eth0", "192.168.7.1");
      },
    );
  });
