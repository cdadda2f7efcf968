/*
 * The guest's code page: exception vectors, the stores that report a finished operation or an
 * exception to addresses without a memslot, and one stub for each operation of the language.
 * Position independent; the recorder copies it to the start of the code slot.
 */
        .arch armv8.2-a

/* IPAs of the reports (guest.h has the same). */
        .equ    DONE_IPA, 0x10000000
        .equ    EXCEPTION_IPA, 0x10000100

        .section .rodata.guest_ops, "a"
        .balign 8
        .global guest_ops, guest_ops_end
guest_ops:

        .section .rodata.guest, "a"
        .balign 4096
        .global guest_code
guest_code:
        /* 16 vectors, 0x80 apart (Arm ARM D1.3.1.4): each passes its own offset on. */
        .set    vector, 0
        .rept   16
        .balign 0x80
        movz    x19, #vector
        b       report_exception
        .set    vector, vector + 0x80
        .endr
        .balign 0x80

report_exception:
        movz    x20, #(EXCEPTION_IPA & 0xffff)
        movk    x20, #(EXCEPTION_IPA >> 16), lsl #16
        mrs     x21, esr_el1
        str     x21, [x20]
        mrs     x21, far_el1
        str     x21, [x20, #8]
        mrs     x21, spsr_el1
        str     x21, [x20, #16]
        mrs     x21, elr_el1
        str     x21, [x20, #24]
        str     x19, [x20, #32]
        b       .

done:
        movz    x20, #(DONE_IPA >> 16), lsl #16
        str     x0, [x20]
        b       .

/* OP name: starts a stub, with its row in the table of operations (guest.h: struct guest_op). */
        .macro  OP name
        .pushsection .rodata.guest_ops, "a"
1:      .asciz  "\name"
        .zero   16 - (. - 1b)
        .quad   op_\name - guest_code
        .popsection
op_\name:
        .endm

        OP ldr64;     ldr x4, [x0]; mov x0, x4; b done
        OP ldr32;     ldr w4, [x0]; mov x0, x4; b done
        OP ldr16;     ldrh w4, [x0]; mov x0, x4; b done
        OP ldr8;      ldrb w4, [x0]; mov x0, x4; b done
        OP ldrsb;     ldrsb x4, [x0]; mov x0, x4; b done
        OP ldrsb32;   ldrsb w4, [x0]; mov x0, x4; b done
        OP ldrsh;     ldrsh x4, [x0]; mov x0, x4; b done
        OP ldrsw;     ldrsw x4, [x0]; mov x0, x4; b done
        OP ldar;      ldar x4, [x0]; mov x0, x4; b done
        OP ldxr;      ldxr x4, [x0]; mov x0, x4; b done
        OP ldp;       ldp x4, x5, [x0]; mov x0, x4; b done
        OP ldr_post;  ldr x4, [x0], #8; b done
        OP ldr_pre;   ldr x4, [x0, #8]!; b done
        OP ldrq;      ldr q0, [x0]; b done
        OP ldrd;      ldr d0, [x0]; b done
        OP ldxz;      ldr xzr, [x0]; mov x0, x4; b done
        OP str64;     str x1, [x0]; b done
        OP str32;     str w1, [x0]; b done
        OP str16;     strh w1, [x0]; b done
        OP str8;      strb w1, [x0]; b done
        OP strz;      str xzr, [x0]; b done
        OP stlr;      stlr x1, [x0]; b done
        OP stxr;      stxr w4, x1, [x0]; b done
        OP stp;       stp x1, x2, [x0]; b done
        OP str_post;  str x1, [x0], #8; b done
        OP str_pre;   str x1, [x0, #8]!; b done
        OP strq;      str q0, [x0]; b done
        OP strd;      str d0, [x0]; b done
        OP ldadd;     ldadd x1, x4, [x0]; mov x0, x4; b done
        OP swp;       swp x1, x4, [x0]; mov x0, x4; b done
        OP cas;       mov x4, x2; cas x4, x1, [x0]; mov x0, x4; b done
        OP ldxrstxr;  ldxr x5, [x0]; stxr w4, x1, [x0]; mov x0, x4; b done
        OP zva;       dc zva, x0; b done
        OP cvac;      dc cvac, x0; b done
        OP civac;     dc civac, x0; b done
        OP ivac;      dc ivac, x0; b done
        OP cvau;      dc cvau, x0; b done
        OP icivau;    ic ivau, x0; b done
        OP iciallu;   ic iallu; isb; b done
        OP prfm;      prfm pldl1keep, [x0]; b done
        OP ats1r;     at s1e1r, x0; isb; mrs x0, par_el1; b done
        OP br;        adr x30, . + 8; br x0; b done
        OP nop;       nop; b done
        OP hvc;       hvc #0; b done
        OP svc;       svc #0; b done
        OP mmuon;     msr ttbr0_el1, x0; msr mair_el1, x1; msr tcr_el1, x2; isb; tlbi vmalle1; dsb nsh; isb; msr sctlr_el1, x3; isb; b done
        OP sctlr;     msr sctlr_el1, x0; isb; b done
        OP tlbi;      tlbi vmalle1; dsb nsh; isb; b done
        OP touchw;    mov x5, x0; 8: str x0, [x5]; add x5, x5, x2; subs x1, x1, #1; b.ne 8b; b done
        OP touchr;    mov x5, x0; 8: ldr x4, [x5]; add x5, x5, x2; subs x1, x1, #1; b.ne 8b; b done
        OP idregs;    mrs x0, midr_el1; mrs x1, id_aa64mmfr0_el1; mrs x2, id_aa64mmfr1_el1; mrs x3, id_aa64mmfr2_el1; mrs x4, ctr_el0; mrs x5, id_aa64pfr0_el1; b done

        .global guest_code_end
        /* All of it lies in the first page: .org cannot move back. */
        .org    guest_code + 4096
guest_code_end:

        .section .rodata.guest_ops, "a"
guest_ops_end:
