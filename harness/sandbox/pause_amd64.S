# The program of a pause container on amd64: reads its stdin to the end, then exits.
# pause.py holds what this assembles to; tests/sandbox/test_pause.py compares the two.

loop:
        xorl    %eax, %eax              # read(
        xorl    %edi, %edi              #   stdin,
        leaq    -128(%rsp), %rsi        #   what is free below the stack pointer,
        movl    $64, %edx               #   64)
        syscall
        testl   %eax, %eax
        jg      loop                    # there may be more
        movl    $60, %eax               # exit(
        xorl    %edi, %edi              #   0)
        syscall
