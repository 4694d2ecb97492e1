"""The shapes of published ways around scanners of pickles. Each leaves ``mark`` behind, a folder, if it is run."""

import pickle as p

from tests.models.pickles.assembled import called, dict_of, name, number, short, stacked, text, tuple_of, whole

MKDIR = name("posix", "mkdir")


def through_memo(mark):
    """Indices that a scanner which counts MEMOIZE alone takes for others."""
    return (
        short("posix")
        + p.BINPUT
        + b"\0"
        + short("mkdir")
        + p.BINPUT
        + b"\1"
        + short("torch._utils")
        + p.MEMOIZE
        + short("_rebuild_tensor_v2")
        + p.MEMOIZE
        + p.POP
        + p.POP
        + p.POP
        + p.POP
        + called(p.BINGET + b"\0" + p.BINGET + b"\1" + p.STACK_GLOBAL, text(mark))
    )


def overwritten_memo(mark):
    """A harmless string, put in the place of which is another before it is fetched."""
    return (
        short("collections")
        + p.BINPUT
        + b"\5"
        + p.POP
        + short("posix")
        + p.BINPUT
        + b"\5"
        + p.POP
        + called(p.BINGET + b"\5" + short("mkdir") + p.STACK_GLOBAL, text(mark))
    )


def attributes_of_a_function(mark):
    """BUILD with two states sets attributes of anything; these then name what is called."""

    def setting(key, value):
        return name("numpy", "prod") + tuple_of(p.NONE, dict_of(**{key: text(value)})) + p.BUILD + p.POP

    return (
        setting("a", "posix")
        + setting("b", "mkdir")
        + called(
            stacked("numpy", "prod.a")
            + p.BINPUT
            + b"\0"
            + p.POP
            + stacked("numpy", "prod.b")
            + p.BINPUT
            + b"\1"
            + p.POP
            + p.BINGET
            + b"\0"
            + p.BINGET
            + b"\1"
            + p.STACK_GLOBAL,
            text(mark),
        )
    )


def attributes_of_a_class(mark):
    """A class of settings whose members are exchanged before it is made."""
    return (
        name("argparse", "Namespace")
        + tuple_of(p.NONE, dict_of(__setstate__=MKDIR))
        + p.BUILD
        + p.POP
        + name("argparse", "Namespace")
        + p.EMPTY_TUPLE
        + p.NEWOBJ
        + text(mark)
        + p.BUILD
    )


def by_partial_state(mark):
    """The state of a partial is what it calls."""
    return (
        called(name("functools", "partial"), name("builtins", "print"))
        + tuple_of(MKDIR, tuple_of(text(mark)), p.EMPTY_DICT, p.NONE)
        + p.BUILD
        + p.EMPTY_TUPLE
        + p.REDUCE
    )


def imported(module):
    return called(name("builtins", "__import__"), text(module))


def chained_getattr(mark):
    return called(called(name("builtins", "getattr"), imported("os"), text("mkdir")), text(mark))


def getattr_of_a_setting(mark):
    """From a class that is on every list to the globals of its module."""
    found = name("argparse", "Namespace")
    for attribute in ("__init__", "__globals__"):
        found = called(name("builtins", "getattr"), found, text(attribute))
    os = called(name("builtins", "getattr"), found, text("get"))
    module = called(os, text("_os"))
    return called(called(name("builtins", "getattr"), module, text("mkdir")), text(mark))


def evaluated(mark, function):
    return called(function, text(f"__import__('os').mkdir({mark!r})"))


def nested_pickle(mark):
    inner = whole(called(MKDIR, text(mark)))
    return called(name("_pickle", "loads"), p.BINBYTES + len(inner).to_bytes(4, "little") + inner)


def items_of_a_namespace(mark):
    """SETITEM on what belongs to a module, found by a dotted name."""
    return (
        stacked("sys", "modules")
        + text("collections")
        + imported("os")
        + p.SETITEM
        + p.POP
        + called(name("collections", "mkdir"), text(mark))
    )


def exchanged_find_class(mark):
    """Names of Python 2 stand for others."""
    return called(name("__builtin__", "eval"), text(f"__import__('os').mkdir({mark!r})"))


RUNNING = {
    "reduce": lambda mark: called(MKDIR, text(mark)),
    "stack_global": lambda mark: called(stacked("posix", "mkdir"), text(mark)),
    "stack_global of another alias": lambda mark: called(stacked("os", "mkdir"), text(mark)),
    "memo mixed": through_memo,
    "memo overwritten": overwritten_memo,
    "inst": lambda mark: p.MARK + text(mark) + p.INST + b"posix\nmkdir\n",
    "obj": lambda mark: p.MARK + MKDIR + text(mark) + p.OBJ,
    "attributes of a function": attributes_of_a_function,
    "state of a partial": by_partial_state,
    "partial": lambda mark: called(called(name("functools", "partial"), MKDIR, text(mark))),
    "getattr": chained_getattr,
    "import": lambda mark: called(called(name("builtins", "getattr"), imported("posix"), text("mkdir")), text(mark)),
    "import_module": lambda mark: called(
        called(name("operator", "attrgetter"), text("mkdir"))
        + tuple_of(called(name("importlib", "import_module"), text("os")))
        + p.REDUCE,
        text(mark),
    ),
    "methodcaller": lambda mark: called(
        called(name("operator", "methodcaller"), text("mkdir"), text(mark)), imported("os")
    ),
    "resolve_name": lambda mark: called(called(name("pkgutil", "resolve_name"), text("os:mkdir")), text(mark)),
    "dotted name": lambda mark: called(stacked("shutil", "os.mkdir"), text(mark)),
    "dict.get of builtins": lambda mark: evaluated(
        mark, called(stacked("builtins", "dict.get"), name("argparse", "__builtins__"), text("eval"))
    ),
    "eval": lambda mark: evaluated(mark, name("builtins", "eval")),
    "eval of Python 2": exchanged_find_class,
    "exec": lambda mark: evaluated(mark, name("builtins", "exec")),
    "timeit": lambda mark: called(
        name("timeit", "timeit"),
        text(f"__import__('os').mkdir({mark!r})"),
        text("pass"),
        name("timeit", "default_timer"),
        number(1),
    ),
    "cProfile": lambda mark: called(
        name("cProfile", "run"), text(f"__import__('os').mkdir({mark!r})"), text("/dev/null")
    ),
    "runpy": lambda mark: called(name("runpy", "_run_code"), text(f"__import__('os').mkdir({mark!r})"), dict_of()),
    "nested pickle": nested_pickle,
    "items of sys.modules": items_of_a_namespace,
    "map": lambda mark: called(name("builtins", "list"), called(name("builtins", "map"), MKDIR, tuple_of(text(mark)))),
    "dup": lambda mark: MKDIR + p.DUP + p.POP + tuple_of(text(mark)) + p.REDUCE,
    "a dict that a class fills": lambda mark: (
        name("collections", "OrderedDict")
        + p.EMPTY_TUPLE
        + p.REDUCE
        + text("k")
        + called(MKDIR, text(mark))
        + p.SETITEM
    ),
    "a key of a dict": lambda mark: p.EMPTY_DICT + called(MKDIR, text(mark)) + p.NONE + p.SETITEM,
    "enum by getattr": lambda mark: called(
        called(name("builtins", "getattr"), name("shutil", "os"), text("mkdir")), text(mark)
    ),
    "defaultdict": lambda mark: called(name("collections", "defaultdict"), MKDIR) + p.POP + called(MKDIR, text(mark)),
}
"""Those that do run when Python's own unpickler reads them."""

STILL = {
    "getattr of a setting": getattr_of_a_setting,
    "attributes of a class": attributes_of_a_class,
    "newobj": lambda mark: name("subprocess", "Popen") + tuple_of(text(mark)) + p.NEWOBJ,
    "newobj_ex": lambda mark: (
        name("subprocess", "Popen") + tuple_of(text(mark)) + dict_of(shell=p.NEWTRUE) + p.NEWOBJ_EX
    ),
    "ext1": lambda mark: p.EXT1 + b"\1" + tuple_of(text(mark)) + p.REDUCE,
    "ext2": lambda mark: p.EXT2 + b"\1\1" + tuple_of(text(mark)) + p.REDUCE,
    "ext4": lambda mark: p.EXT4 + b"\1\0\0\0" + tuple_of(text(mark)) + p.REDUCE,
    "persistent id as text": lambda mark: p.PERSID + b"x\n",
    "persistent id as a number": lambda mark: number(1) + p.BINPERSID,
    "persistent id of a function": lambda mark: (
        tuple_of(text("storage"), MKDIR, text("0"), text("cpu"), number(1)) + p.BINPERSID
    ),
    "persistent id of a module": lambda mark: (
        tuple_of(text("module"), MKDIR, text("f"), text("s")) + p.BINPERSID + tuple_of(text(mark)) + p.REDUCE
    ),
    "buffers from elsewhere": lambda mark: p.NEXT_BUFFER,
    "items of a class": lambda mark: stacked("collections", "OrderedDict.__dict__") + text("get") + MKDIR + p.SETITEM,
    "items of a class on the list": lambda mark: name("collections", "OrderedDict") + text("get") + MKDIR + p.SETITEM,
    "an element of sys.path": lambda mark: name("sys", "path") + text(mark) + p.APPEND,
    "elements of a tuple": lambda mark: tuple_of(p.NONE) + text(mark) + p.APPEND,
    "attributes of a list": lambda mark: p.EMPTY_LIST + dict_of(__class__=MKDIR) + p.BUILD,
    "attributes of a class of torch": lambda mark: name("torch", "Tensor") + dict_of(__setstate__=MKDIR) + p.BUILD,
    "a number is called": lambda mark: number(3) + p.EMPTY_TUPLE + p.REDUCE,
    "a setting is called": lambda mark: called(called(name("argparse", "Namespace")), text(mark)),
    "a dtype is called": lambda mark: called(name("torch", "float32"), text(mark)),
    "called with a list": lambda mark: name("argparse", "Namespace") + p.EMPTY_LIST + p.REDUCE,
    "a name of numbers": lambda mark: number(3) + number(4) + p.STACK_GLOBAL,
    "a name with a space": lambda mark: name("collections OrderedDict", "x y"),
    "a member that is not one": lambda mark: called(
        name("builtins", "getattr"), name("argparse", "Namespace"), text("__init__")
    ),
    "a default dict of evil": lambda mark: called(name("collections", "defaultdict"), MKDIR),
    "_reconstructor of evil": lambda mark: called(
        name("copyreg", "_reconstructor"), name("subprocess", "Popen"), name("builtins", "object"), p.NONE
    ),
    "a tensor by evil": lambda mark: called(
        name("torch._tensor", "_rebuild_from_type_v2"), MKDIR, MKDIR, tuple_of(text(mark)), p.NONE
    ),
    "a subclass of evil": lambda mark: called(name("torch._utils", "_rebuild_wrapper_subclass"), MKDIR, text(mark)),
}
"""Shapes that leave no mark by themselves, or need a reader with weaknesses."""

NAMES = """
torch.load torch.jit.load torch.jit._load torch.hub.load torch.hub._load_local torch.package.PackageImporter
torch.storage._load_from_bytes torch.utils._config_module.load_config torch.utils.collect_env.run
torch.utils.bottleneck.__main__.run_cprofile torch.utils.bottleneck.__main__.run_autograd_prof
torch.jit.unsupported_tensor_ops.execWrapper torch.jit.annotations.parse_type_line
torch._dynamo.guards.GuardBuilder.get torch._dynamo.eval_frame.optimize torch._inductor.codecache.compile_file
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression torch.fx._symbolic_trace.symbolic_trace
torch.fx.graph_module._forward_from_src torch.fx.graph_module.reduce_graph_module
torch.fx.graph_module._exec_with_source torch.utils.data.datapipes.utils.decoder.basichandlers
torch.utils.cpp_extension.load_inline torch.utils.model_dump.main torch.distributed.rpc.internal._run_function
torch.distributed.rpc.rpc_sync torch.distributed.nn.RemoteModule torch.ops.load_library torch._C._jit_pass_inline
torch.classes.load_library torch.serialization.load torch.serialization.add_safe_globals
torch._export.serde.serialize.deserialize torch.testing._internal.common_utils.run_tests
torch._utils._rebuild_wrapper_subclass torch._utils._import_dotted_name torch._tensor.Tensor.map_ torch.nn.Module
torch.nn.modules.module.os torch.from_file torch.save numpy.testing._private.utils.runstring
numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran._eval_length numpy.load numpy.lib.npyio.load numpy.savetxt
numpy.fromfile numpy.memmap numpy.ctypeslib.load_library numpy.distutils.exec_command.exec_command
numpy.core._internal.sys numpy.__builtins__ numpy.dtype.__new__ numpy.ndarray.tofile numpy.vectorize os.system
os.popen os.execv posix.system nt.system subprocess.Popen subprocess.check_output pty.spawn builtins.eval
builtins.exec builtins.compile builtins.__import__ builtins.open builtins.getattr builtins.setattr builtins.delattr
builtins.globals builtins.breakpoint builtins.input builtins.map builtins.filter builtins.vars builtins.help
builtins.print builtins.__build_class__ builtins.str.format builtins.memoryview builtins.type.__call__ builtins.super
builtins.property asyncio.unix_events._UnixSubprocessTransport._start asyncio.create_subprocess_shell asyncio.run
timeit.timeit timeit.repeat cProfile.run cProfile.runctx profile.run profile.Profile.run pdb.run pdb.Pdb bdb.Bdb.run
trace.Trace.run trace.Trace.runctx doctest.debug_script code.InteractiveInterpreter.runcode code.interact
codeop.compile_command runpy.run_path runpy._run_code pip.main pip._internal.main pip._internal.cli.main.main
ensurepip._run_pip ensurepip.bootstrap venv.main venv.create idlelib.run.Executive.runcode
idlelib.pyshell.ModifiedInterpreter.runcode idlelib.pyshell.ModifiedInterpreter.runcommand
idlelib.autocomplete.AutoComplete.get_entity idlelib.calltip.get_entity idlelib.debugobj.ObjectTreeItem.SetText
lib2to3.pgen2.pgen.ParserGenerator.make_label lib2to3.pgen2.grammar.Grammar.loads pkgutil.resolve_name
importlib.import_module importlib.util.module_from_spec importlib.reload zipimport.zipimporter marshal.loads
types.FunctionType types.CodeType pickle.loads _pickle.loads _pickle.Unpickler shelve.open dill.loads joblib.load
cloudpickle.loads ctypes.CDLL ctypes.util.find_library _ctypes.dlopen _interpreters.run_string
_xxsubinterpreters.run_string _io.FileIO io.open io.FileIO codecs.open fileinput.input linecache.getlines
logging.config.listen logging.FileHandler webbrowser.open smtplib.SMTP ssl.get_server_certificate
http.client.HTTPConnection urllib.request.urlopen socket.create_connection ftplib.FTP telnetlib.Telnet
xmlrpc.client.ServerProxy requests.get aiohttp.ClientSession httplib.HTTPSConnection distutils.file_util.write_file
distutils.spawn.spawn shutil.rmtree shutil.copyfile tempfile.NamedTemporaryFile sqlite3.connect
uuid._get_command_stdout uuid._popen _aix_support._read_cmd_output _osx_support._read_output _pyrepl.pager.pipe_pager
platform._syscmd_ver multiprocessing.util.spawnv_passfds _posixsubprocess.fork_exec unittest.mock._importer
test.support.run_in_subinterp operator.attrgetter operator.methodcaller operator.itemgetter _operator.attrgetter
functools.partial functools.reduce itertools.starmap functools.partialmethod collections.namedtuple
typing.get_type_hints typing.ForwardRef._evaluate dataclasses.make_dataclass string.Formatter.format
copyreg.add_extension copyreg.__newobj__ copyreg.dispatch_table weakref.finalize atexit.register signal.signal
sys.settrace sys.modules sys.exit threading.Thread concurrent.futures.ThreadPoolExecutor contextlib.ExitStack
gc.get_objects inspect.getsource ast.literal_eval tokenize.open turtle.Turtle tkinter.Tcl readline.read_init_file
site.addpackage argparse._sys argparse.FileType argparse.ArgumentParser pathlib.os pathlib.Path.unlink
pathlib._local.os datetime.sys collections._sys collections.OrderedDict.fromkeys collections.abc.sys
decimal.setcontext uuid.os hydra.utils.instantiate hydra._internal.instantiate._instantiate2.instantiate
omegaconf.OmegaConf.load omegaconf._utils.get_yaml_loader mmengine.config.config.Config.fromfile
mmengine.registry.build_functions.build_from_cfg mmengine.utils.package_utils.install_package
mmcv.utils.ext_loader.load_ext yacs.config.CfgNode.load_cfg yacs.config.load_cfg
detectron2.config.lazy.LazyConfig.load detectron2.config.instantiate.instantiate lightning.pytorch.cli.LightningCLI
lightning.app.utilities.load_app.load_app_from_file pytorch_lightning.cli.LightningCLI
lightning.fabric.utilities.cloud_io._load transformers.AutoModel.from_pretrained
transformers.dynamic_module_utils.get_class_in_module transformers.pipelines.Pipeline
transformers.utils.import_utils._LazyModule accelerate.launchers.notebook_launcher accelerate.commands.launch.main
timm.models.helpers.load_checkpoint timm.create_model ultralytics.YOLO ultralytics.utils.checks.check_requirements
ultralytics.nn.tasks.attempt_load_one_weight ml_collections.config_flags.config_flags addict.addict.copy
easydict.EasyDict.update peft.PeftModel.from_pretrained torchvision.models.resnet18 torchvision.transforms.Lambda.x
sklearn.utils._load joblib.numpy_pickle.load pandas.eval pandas.read_pickle
IPython.core.interactiveshell.InteractiveShell __main__.Evil nowhere.Evil
""".split()
"""Functions and classes by which code was run past scanners, and their kin in the packages whose settings are known."""
