/* SPDX-License-Identifier: Apache-2.0 */
/* fiber_switch(void **save_sp, void *next_sp): keeps what the ABI says a call keeps, on the present stack, stores the stack pointer in
 * *save_sp and goes on where next_sp was stored.  Both sides have the same frame, so the unwind rules hold on either stack.
 * fiber_start: what the first switch to a fiber returns into; the frame was laid out by fiber.c. It is the end of a backtrace. */
#if defined(__x86_64__)

    .text
    .globl fiber_switch
    .hidden fiber_switch
    .type fiber_switch, @function
    .p2align 4
fiber_switch:
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    ret
    .cfi_endproc
    .size fiber_switch, . - fiber_switch

    .globl fiber_start
    .hidden fiber_start
    .type fiber_start, @function
    .p2align 4
fiber_start:
    .cfi_startproc
    .cfi_undefined %rip
    movq %r12, %rdi
    call fiber_main
    ud2
    .cfi_endproc
    .size fiber_start, . - fiber_start

#elif defined(__aarch64__)

    .text
    .globl fiber_switch
    .hidden fiber_switch
    .type fiber_switch, %function
    .p2align 4
fiber_switch:
    .cfi_startproc
    sub sp, sp, #160
    .cfi_def_cfa_offset 160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    .cfi_offset 19, -160
    .cfi_offset 20, -152
    .cfi_offset 21, -144
    .cfi_offset 22, -136
    .cfi_offset 23, -128
    .cfi_offset 24, -120
    .cfi_offset 25, -112
    .cfi_offset 26, -104
    .cfi_offset 27, -96
    .cfi_offset 28, -88
    .cfi_offset 29, -80
    .cfi_offset 30, -72
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    .cfi_def_cfa_offset 0
    .cfi_restore 19
    .cfi_restore 20
    .cfi_restore 21
    .cfi_restore 22
    .cfi_restore 23
    .cfi_restore 24
    .cfi_restore 25
    .cfi_restore 26
    .cfi_restore 27
    .cfi_restore 28
    .cfi_restore 29
    .cfi_restore 30
    ret
    .cfi_endproc
    .size fiber_switch, . - fiber_switch

    .globl fiber_start
    .hidden fiber_start
    .type fiber_start, %function
    .p2align 4
fiber_start:
    .cfi_startproc
    .cfi_undefined 30
    mov x0, x19
    bl fiber_main
    brk #0
    .cfi_endproc
    .size fiber_start, . - fiber_start

#else
#error "fiber_switch: only x86-64 and arm64"
#endif

    .section .note.GNU-stack, "", %progbits
