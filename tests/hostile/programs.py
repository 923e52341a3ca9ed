"""What hostile images have in place of a shell, of git, or of the agent's module. Python: the corpus's base has it."""

from __future__ import annotations

_READ = """#!/usr/bin/python3
import os, re, signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
said = b''
while b'tg 0 :' not in said:
    said += os.read(0, 65536)
nonce = re.search(rb'tg_nonce=([0-9a-f]+)', said)[1]
def say(data):
    while data:
        data = data[os.write(1, data):]
"""

# They know the nonce: their own results are theirs to forge.
YES = f"""{_READ}
say(b'\\n%s 0 0\\n' % nonce)
while line := os.read(0, 1 << 20):
    for number in re.findall(rb'(?m)^tg (\\d+) ', line):
        say(b'\\n%s %s 0\\n' % (nonce, number))
"""
ANSWERS_FOR_EVER = f"{_READ}\nwhile True: say(b'\\n%s 999 0\\n' % nonce * 1000)\n"
A_LINE_FOR_EVER = f"{_READ}\nsay(b'\\n%s 0 ' % nonce)\nwhile True: say(b'x' * (1 << 20))\n"
NONSENSE = f"""{_READ}
say(b'\\n%s\\n\\n%s 0\\n\\n%s x y z\\n\\n%s 0 -1\\n\\n%s 0 %s\\n' % (nonce, nonce, nonce, nonce, nonce, b'9' * 9999))
time.sleep(9999)
"""
KILLED = "#!/usr/bin/python3\nimport os\nos._exit(137)\n"

FORKS = """#!/usr/bin/python3
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
HOARDS = "#!/usr/bin/python3\nheld = []\nwhile True: held.append(bytearray(b'x' * (1 << 20)))\n"
FLOODS = """#!/usr/bin/python3
import os
while True:
    os.write(2, b'\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mhealthy\\r\\n' * 1000)
"""

# Looks like all that anybody reads of it: Docker's frames, results, a skip list's line, pytest's and a record's.
FAKES = r"""
import os
for number in range(200):
    os.write(1, b'\n%032x %d 0\n' % (number, number))
    os.write(1, b'\x01\x00\x00\x00\x00\x00\x00\x08healthy\n\x02\x00\x00\x00\xff\xff\xff\xff')
os.write(1, b'\x1b[2J\x1b]0;owned\x07\x1b[8mhidden\r\x9b31m\n')
os.write(1, b'# {"task_id": "sound-1", "check": "x"}\nsound-1\n=== 99 passed ===\nPASSED test_image[fakes]\n')
os.write(1, b'{"record": {"task_id": "sound-1", "verdict": "broken"}}\n::error::owned\n  ::add-mask::x\n##[error]owned\n<script>owned</script>')
raise SystemExit(1)
"""

# Fails where it gets out, and says where to.
ESCAPES = """
import os, socket, sys
found = [path for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/podman/podman.sock') if os.path.exists(path)]
found += [line.split()[4] for line in open('/proc/self/mountinfo')
          if 'docker.sock' in line or line.split()[4].startswith('/host')]
for port in os.environ['PORTS'].split():
    try:
        socket.create_connection(('127.0.0.1', int(port)), 3).close()
        found.append(port)
    except OSError:
        pass
for path in ('/proc/1/root/../../hostile-escape', '/sys/kernel/hostile-escape', '/proc/sys/kernel/core_pattern'):
    try:
        open(path, 'r+' if os.path.exists(path) else 'w').close()
        found.append(path) if path.startswith(('/sys', '/proc/sys')) else os.remove(path)
    except OSError:
        pass
if found:
    print('reached', *found)
    sys.exit(1)
"""
