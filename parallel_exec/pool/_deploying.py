"""What a pool's user does with deployments; deployment.py has what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parallel_exec.plugins import AnyPlugin
from parallel_exec.pool._deployment import Deployment
from parallel_exec.pool._events import PoolEvent
from parallel_exec.pool._version import Version

if TYPE_CHECKING:
    from parallel_exec.pool._scheduling.core import Core
    from parallel_exec.pool._threads.backend import ThreadCore


class Deploying:
    """The part of `Pool` that names plugins, so that each can be replaced by a new version while jobs run."""

    _core: Core | ThreadCore

    def deploy(self, name: str, plugin: AnyPlugin) -> Version:
        """Make a plugin the current version of a deployment, which need not exist yet.

        The swap is atomic: the jobs that were submitted before (and the documents that a map has drawn) run on the old
        version, all others on the new one, and each result tells which (`JobFuture.version`, ``map(versions=True)``).
        The memory of versions that nobody uses any more is given back.

        Args:
            name: any text.
            plugin: what its functions are from now on.

        Raises:
            PluginError: the plugin cannot be loaded; the version before stays current. RuntimeError: the pool has been
            shut down.

        >>> import parallel_exec as px
        >>> with px.Pool(1) as pool:
        ...     _ = pool.deploy("pricing", px.Plugin("const price = n => 10 * n"))
        ...     price = pool.deployment("pricing").function("price")
        ...     before = pool.submit(price, 2)
        ...     _ = pool.deploy("pricing", px.Plugin("const price = n => 9 * n"))
        ...     after = pool.submit(price, 2)
        ...     [(future.version.number, future.result()) for future in (before, after)]
        [(1, 20), (2, 18)]
        """
        if not isinstance(name, str):
            raise TypeError(f"a deployment's name must be a str, not {name!r}")
        if not isinstance(plugin, AnyPlugin):
            raise TypeError(f"only a Plugin or WasmPlugin can be deployed, not {plugin!r}")
        self._core.check_open()
        version = self._core.deployments.deploy(name, plugin)
        self._core.events.note(PoolEvent("deployment swapped", str(version), version=version))
        self._core.events.deliver()
        return version

    def deployment(self, name: str) -> Deployment:
        """Return the deployment of this name.

        Raises:
            LookupError: nothing has been deployed under it.
        """
        return self._core.deployments.find(name)

    def undeploy(self, name: str) -> Version:
        """Take a deployment away. Its jobs so far still run; a `Deployment` that somebody holds goes on as it is, and
        the memory is given back when nobody does.

        Returns:
            the version that was current. If the name is deployed again, its versions are numbered on from there.

        Raises:
            LookupError: nothing is deployed under this name.
        """
        return self._core.deployments.remove(name)
