// The program of a pause container on arm64: reads its stdin to the end, then exits.
// pause.py holds what this assembles to; tests/sandbox/test_pause.py compares the two.

loop:
        mov     x8, #63                 // read(
        mov     x0, #0                  //   stdin,
        sub     x1, sp, #128            //   what is free below the stack pointer,
        mov     x2, #64                 //   64)
        svc     #0
        cmp     x0, #0
        b.gt    loop                    // there may be more
        mov     x8, #93                 // exit(
        mov     x0, #0                  //   0)
        svc     #0
